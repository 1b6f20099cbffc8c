//! Pages to read: how to run a switchboard where strangers can reach it.

#[doc = include_str!("operations.md")]
pub mod operations {}
