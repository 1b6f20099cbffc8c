//! Pages to read: how to run a switchboard where strangers can reach it, and what its services speak.

#[cfg(feature = "web")]
#[doc = include_str!("chat.md")]
pub mod chat {}
#[doc = include_str!("operations.md")]
pub mod operations {}
#[cfg(feature = "web")]
#[doc = include_str!("relay.md")]
pub mod relay {}
