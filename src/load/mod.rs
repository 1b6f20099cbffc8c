//! The load generator: any server, any language, honestly measured.
//!
//! It stands on the same reactor as the server: its connections are clients on one loop. What makes it honest:
//!
//! - in an open loop, a message's time runs from when it was *due*, not from when we got round to it;
//! - every reply is compared, byte by byte, with what it must be;
//! - what never came stands in the distribution, as infinite;
//! - it says who was the limit, itself included.
//!
//! Reading order, from the whole to the parts:
//!
//! - [`run`]: a run from the first connection to the report; [`plan`]: what is asked of it; [`reach`]: which address is called;
//! - [`crew`]: the threads; [`caller`]: the clients of one of them, as a handler on the reactor;
//! - [`script`]: what is said and must come back; [`dialogue`]: what each byte that came means;
//!   [`pacer`]: when messages of an open loop are due;
//! - [`account`], [`histogram`], [`timeline`]: what is counted; [`shape`]: one mode or two;
//! - [`witness`]: the machine meanwhile (by `procfs` and `listening`), [`ceiling`]: what we could do at most,
//!   [`verdict`]: who was the limit;
//! - [`search`], [`compare`]: many runs; [`report`]: what a run found out, as data;
//! - [`summary`], [`page`] (drawn by [`plot`]), [`files`], [`figures`]: how it is shown.
//!
//! Invariant: nothing that is shown was not in the [`report::Report`].

pub mod account;
pub mod caller;
pub mod ceiling;
pub mod compare;
pub mod comparison;
pub mod crew;
pub mod dialogue;
#[cfg(test)]
mod example;
#[cfg(feature = "web")]
pub mod fan_out;
pub mod figures;
pub mod files;
pub mod histogram;
#[cfg(feature = "web")]
pub mod http;
mod listening;
pub mod pacer;
pub mod page;
pub mod plan;
pub mod plot;
mod procfs;
pub mod reach;
pub mod report;
pub mod run;
pub mod script;
pub mod search;
pub mod shape;
pub mod summary;
pub mod timeline;
pub mod verdict;
#[cfg(feature = "web")]
pub mod websocket;
pub mod witness;
