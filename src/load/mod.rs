//! The load generator: any server, any language, honestly measured.
//!
//! It stands on the same reactor as the server: its connections are clients on one loop. Reading order:
//!
//! - [`report`]: what a run finds out; everything that is shown is shown from there.

pub mod account;
pub mod caller;
pub mod ceiling;
pub mod compare;
pub mod crew;
pub mod dialogue;
#[cfg(test)]
mod example;
pub mod figures;
pub mod files;
pub mod histogram;
mod listening;
pub mod pacer;
pub mod page;
pub mod plan;
mod procfs;
pub mod report;
pub mod run;
pub mod script;
pub mod search;
pub mod shape;
pub mod summary;
pub mod timeline;
pub mod verdict;
pub mod witness;
