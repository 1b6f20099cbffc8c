//! placeholder
#[cfg(feature = "cli")]
pub mod cli;
pub mod endpoint;
pub mod guard;
#[cfg(feature = "cli")]
pub mod logging;
pub mod protocol;
pub mod reactor;
pub mod server;
pub mod service;
pub mod transport;
