//! Where the other end of a stream is.

use std::fmt;
use std::net::SocketAddr;

/// Where a stream comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// A TCP peer.
    Ip(SocketAddr),
    /// A process on this machine.
    Unix,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix => f.write_str("unix"),
        }
    }
}
