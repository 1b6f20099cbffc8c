//! How bytes move: the kernel's streams, and a scripted one for tests.
//!
//! - [`stream`]: TCP and Unix stream sockets behind one enum, so that the loop stays one monomorphic
//!   function whatever is listened on;
//! - [`wire`]: an in-memory transport that does what a test tells it to: short reads, short writes,
//!   would-block anywhere, end of file, reset.
//!
//! Both are [`Transport`](crate::reactor::Transport)s: what TLS will be, too.

pub mod stream;
pub mod wire;

pub use stream::{Address, ListenOptions, Listener, Stream};
