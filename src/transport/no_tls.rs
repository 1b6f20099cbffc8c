//! Where TLS would be, without the feature `tls`: types of which there are no values, so that nothing else has to
//! ask whether the feature is there, and nothing of it is compiled.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::time::Duration;

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
pub struct Tls<S> {
    below: S,
    never: Infallible,
}

#[allow(missing_docs)]
impl<S> Tls<S> {
    pub fn accepted(_below: S, tls: &ServerTls) -> io::Result<Tls<S>> {
        match *tls {}
    }

    pub fn connecting(_below: S, tls: &ClientTls) -> io::Result<Tls<S>> {
        match *tls {}
    }

    pub fn below(&self) -> &S {
        &self.below
    }

    pub fn below_mut(&mut self) -> &mut S {
        &mut self.below
    }

    pub fn establish(&mut self) -> io::Result<()> {
        match self.never {}
    }

    pub fn is_emptied(&self) -> bool {
        match self.never {}
    }

    pub fn discard(&mut self, _scratch: &mut [u8]) -> io::Result<usize> {
        match self.never {}
    }

    pub fn passed_on(&self) -> u64 {
        match self.never {}
    }

    pub fn finish(&mut self, _last: bool) -> io::Result<()> {
        match self.never {}
    }

    pub fn secured(&self) -> Secured {
        match self.never {}
    }
}

impl<S> Read for Tls<S> {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        match self.never {}
    }
}

impl<S> Write for Tls<S> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match self.never {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.never {}
    }
}
