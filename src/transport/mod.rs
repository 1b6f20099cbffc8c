//! How bytes move: the kernel's streams, and a scripted one for tests.
//!
//! - [`stream`]: TCP and Unix stream sockets behind one enum, so that the loop stays one monomorphic
//!   function whatever is listened on;
//! - [`datagram`]: UDP sockets that answer from the address that was asked;
//! - [`tls`]: TLS on top of a TCP socket (with the feature `tls`; without it, an empty place);
//! - `pem`: the files of certificates and keys;
//! - `proxied`: a connection from a proxy begins with a PROXY header;
//! - [`custom`]: streams of a kind that is not known here;
//! - [`wire`]: an in-memory transport that does what a test tells it to: short reads, short writes,
//!   would-block anywhere, end of file, reset.
//!
//! All are [`Transport`](crate::reactor::Transport)s.

mod address;
pub mod custom;
pub mod datagram;
mod options;
#[cfg(feature = "tls")]
mod pem;
mod proxied;
pub mod stream;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub mod tls;
pub mod wire;

pub use address::Address;
pub use datagram::Datagrams;
pub use options::ListenOptions;
pub use stream::{Listener, Stream};
