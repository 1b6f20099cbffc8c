//! The load generator: any server, any language, honestly measured.
//!
//! It stands on the same reactor as the server: its connections are clients on one loop. Reading order:
//!
//! - [`report`]: what a run finds out; everything that is shown is shown from there.

pub mod report;
