//! What a `mio::Token` means, and the name that a connection goes by.
//!
//! The kernel returns 64 bits with each event. We pack a slot and a generation into them: the slot is
//! the connection's place in the slab, and the generation tells it from earlier connections in the same
//! slot. An event for a connection that has been closed meanwhile, in the same batch or
//! long before, carries an old generation and finds nothing. That is the whole defence against the
//! oldest bug of event loops: a slot (or a descriptor) is reused, and the new connection gets an event of the old one.
//!
//! Invariant: a connection's generation is never 0, because 0 marks the sources that are not connections. The type ensures
//! that, and only the board makes names, when a connection comes. So no code can make the name of a closed connection.

use std::num::NonZeroU32;

use mio::Token;

const _: () = assert!(usize::BITS >= 64, "a token carries a slot and a generation: 64 bits are needed");

/// The name of a connection: small, `Copy`, and safe to keep for as long as you like. When the
/// connection is gone, every use of its name does nothing.
///
/// Generations are 32 bits and count all connections of a reactor, so a name that was kept could meet
/// its double only after four thousand million further connections, in the very same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    pub(super) slot: u32,
    pub(super) generation: NonZeroU32,
}

#[cfg(all(test, feature = "web"))]
impl Peer {
    /// A name that no connection has, for tests of code that keeps names.
    pub(crate) fn of_nobody(slot: u32) -> Peer {
        Peer { slot, generation: NonZeroU32::MIN }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.slot, self.generation)
    }
}

/// A poll reports a connection's events with this.
impl From<Peer> for Token {
    fn from(peer: Peer) -> Token {
        Source::Connection(peer).token()
    }
}

/// Everything that the poll watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Connection(Peer),
    Listener(u32),
    Datagram(u32),
    Waker,
    Signals,
}

// The kinds that are not connections stand in the top bits of the slot half.
const LISTENER: u32 = 0;
const DATAGRAM: u32 = 1 << 30;
const OTHER: u32 = 2 << 30;
const KIND: u32 = 3 << 30;

impl Source {
    #[inline]
    pub(super) fn token(self) -> Token {
        let (slot, generation) = match self {
            Source::Connection(peer) => (peer.slot, peer.generation.get()),
            Source::Listener(index) => (LISTENER | index, 0),
            Source::Datagram(index) => (DATAGRAM | index, 0),
            Source::Waker => (OTHER, 0),
            Source::Signals => (OTHER | 1, 0),
        };
        Token((generation as usize) << 32 | slot as usize)
    }

    #[inline]
    pub(super) fn from_token(Token(bits): Token) -> Source {
        let (slot, generation) = (bits as u32, (bits >> 32) as u32);
        if let Some(generation) = NonZeroU32::new(generation) {
            return Source::Connection(Peer { slot, generation });
        }
        match (slot & KIND, slot & !KIND) {
            (LISTENER, index) => Source::Listener(index),
            (DATAGRAM, index) => Source::Datagram(index),
            (_, 0) => Source::Waker,
            _ => Source::Signals,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_every_source_there_and_back() {
        for source in [
            Source::Connection(Peer { slot: 0, generation: NonZeroU32::MIN }),
            Source::Connection(Peer { slot: u32::MAX, generation: NonZeroU32::MAX }),
            Source::Listener(0),
            Source::Listener(7),
            Source::Datagram(0),
            Source::Datagram(7),
            Source::Waker,
            Source::Signals,
        ] {
            assert_eq!(Source::from_token(source.token()), source);
        }
    }
}
