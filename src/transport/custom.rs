//! Streams of a kind that this crate does not know: virtual sockets, a pipe between two threads, a simulated network.
//!
//! A type that implements [`CustomStream`] is served like a TCP socket: by the same loop, with the same protocols and services,
//! and with TLS or a PROXY header on top if the listener asks for it. Each call goes through a pointer; calls of TCP do not.
//!
//! ```
//! use std::io::{self, Read, Write};
//!
//! use switchboard::reactor::{Limits, Reactor};
//! use switchboard::service::echo::Echo;
//! use switchboard::service::exchange::{Exchange, Place};
//! use switchboard::transport::custom::{CustomListener, CustomStream};
//! use switchboard::transport::{Address, Listener};
//! # use mio::{Interest, Registry, Token, event, net::{UnixListener, UnixStream}};
//!
//! /// A Unix socket whose bytes are all inverted.
//! struct Inverted(UnixStream);
//! struct Inverting(UnixListener);
//!
//! impl Read for Inverted {
//!     fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
//!         let count = self.0.read(into)?;
//!         into[..count].iter_mut().for_each(|byte| *byte = !*byte);
//!         Ok(count)
//!     }
//! }
//! # impl Write for Inverted {
//! #     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
//! #         let turned: Vec<u8> = bytes.iter().map(|byte| !*byte).collect();
//! #         self.0.write(&turned)
//! #     }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! # impl event::Source for Inverted {
//! #     fn register(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> { self.0.register(r, t, i) }
//! #     fn reregister(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> { self.0.reregister(r, t, i) }
//! #     fn deregister(&mut self, r: &Registry) -> io::Result<()> { self.0.deregister(r) }
//! # }
//! # impl event::Source for Inverting {
//! #     fn register(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> { self.0.register(r, t, i) }
//! #     fn reregister(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> { self.0.reregister(r, t, i) }
//! #     fn deregister(&mut self, r: &Registry) -> io::Result<()> { self.0.deregister(r) }
//! # }
//! // `Write` and `event::Source` in the same way, and then:
//! impl CustomStream for Inverted {
//!     fn finish(&mut self) -> io::Result<()> {
//!         self.0.shutdown(std::net::Shutdown::Write)
//!     }
//! }
//! impl CustomListener for Inverting {
//!     fn accept(&mut self) -> io::Result<(Box<dyn CustomStream>, Address)> {
//!         let (socket, _) = self.0.accept()?;
//!         Ok((Box::new(Inverted(socket)), Address::Unix))
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! # let path = std::env::temp_dir().join(format!("inverted-{}", std::process::id()));
//! let mut exchange = Exchange::new(Echo);
//! exchange.set_listener(0, Place { message_bytes_max: 1024, ..Place::default() });
//! let mut reactor = Reactor::new(exchange, Limits::default())?;
//! reactor.listen(Listener::Custom(Box::new(Inverting(UnixListener::bind(&path)?))))?;
//!
//! let mut client = std::os::unix::net::UnixStream::connect(&path)?;
//! client.write_all(b"hello")?;
//! while reactor.turn(None)?.bytes_out == 0 {}
//! let mut heard = [0; 5];
//! client.read_exact(&mut heard)?;
//! assert_eq!(&heard, b"hello"); // inverted twice
//! # std::fs::remove_file(path)
//! # }
//! ```

use std::io::{self, ErrorKind, Read, Write};

use mio::event;

use super::address::Address;

/// A non-blocking stream with two independent directions. What `read` and `write` return is said at
/// [`Transport`](crate::reactor::Transport). `Send`, since a server may be made on one thread and run on another.
pub trait CustomStream: Read + Write + event::Source + Send {
    /// Ends our direction: the peer reads everything that was written, and then end of file. As shutdown(2) with SHUT_WR.
    ///
    /// # Errors
    /// Where there is no connection any more.
    fn finish(&mut self) -> io::Result<()>;

    /// Reads what the next `read` will return. A PROXY header is taken in this way, since what follows it is not ours to hold.
    ///
    /// # Errors
    /// As `read`; `Unsupported` where it can't be done.
    fn peek(&self, _into: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Where the other end is.
    fn peer_address(&self) -> Option<Address> {
        None
    }

    /// How many bytes it has passed on so far, if `flush` can return `WouldBlock`: the progress of a peer that takes them slowly. Without
    /// it, a peer that does not take all of them within `stall_after` is stalled.
    fn passed_on(&self) -> u64 {
        0
    }

    /// Whether a read that returned less than was asked for has emptied the stream, so that the next arrival is sure to raise
    /// an event.
    fn short_read_means_empty(&self) -> bool {
        false
    }
}

/// What accepts such streams.
pub trait CustomListener: event::Source + Send {
    /// Accepts the next waiting stream. The guard checks an [`Address::Ip`] against its lists of addresses.
    ///
    /// # Errors
    /// As accept(2): `WouldBlock` if no stream waits.
    fn accept(&mut self) -> io::Result<(Box<dyn CustomStream>, Address)>;
}
