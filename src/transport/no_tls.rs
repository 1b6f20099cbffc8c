//! Where TLS would be, without the feature `tls`: types of which there are no values, so that nothing else has to
//! ask whether the feature is there, and nothing of it is compiled.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::stream::Stream;

/// See `tls::ServerTls`.
#[derive(Debug, Clone)]
pub enum ServerTls {}

#[allow(missing_docs)]
impl ServerTls {
    pub fn speaking(self, _protocol: &str) -> ServerTls {
        match self {}
    }
}

/// See `tls::ClientTls`.
#[derive(Debug, Clone)]
pub enum ClientTls {}

/// See `tls::Secured`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// Whether an earlier handshake was resumed.
    pub resumed: bool,
    /// How long it took.
    pub took: Duration,
}

/// See `tls::Tls`.
pub enum Tls {}

#[allow(missing_docs)]
impl Tls {
    pub fn accepted(_below: Stream, tls: &ServerTls) -> io::Result<Tls> {
        match *tls {}
    }

    pub fn connecting(_below: Stream, tls: &ClientTls) -> io::Result<Tls> {
        match *tls {}
    }

    pub fn below(&self) -> &Stream {
        match *self {}
    }

    pub fn below_mut(&mut self) -> &mut Stream {
        match *self {}
    }

    pub fn establish(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub fn is_emptied(&self) -> bool {
        match *self {}
    }

    pub fn discard(&mut self, _scratch: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn passed_on(&self) -> u64 {
        match *self {}
    }

    pub fn finish(&mut self, _last: bool) -> io::Result<()> {
        match *self {}
    }

    pub fn secured(&self) -> Secured {
        match *self {}
    }
}

impl Read for Tls {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for Tls {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}
