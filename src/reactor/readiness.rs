//! Readiness: what an event of the poll reports, and what a connection's latches remember of it.

/// What an event reports, as bits: a copy of mio's event, so that tests can make one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// A read will tell something: bytes, the end of file, or an error.
    pub const READABLE: Readiness = Readiness(1);
    /// A write will tell something.
    pub const WRITABLE: Readiness = Readiness(2);
    /// A hang-up, an error or urgent data: there may be more behind a short read.
    pub const EXCEPTIONAL: Readiness = Readiness(4);

    /// Both: what this one and the other one report.
    #[inline(always)]
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// Whether any of `other` is in here.
    #[inline(always)]
    pub const fn has(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    #[inline(always)]
    pub(super) fn clear(&mut self, other: Readiness) {
        self.0 &= !other.0;
    }
}

impl From<&mio::event::Event> for Readiness {
    #[inline(always)]
    fn from(event: &mio::event::Event) -> Readiness {
        // The next read or write returns the error, so it wakes both directions.
        let error = event.is_error();
        let exceptional = error | event.is_read_closed() | event.is_priority();
        let readable = event.is_readable() | exceptional;
        let writable = event.is_writable() | error;
        Readiness(u8::from(readable) | u8::from(writable) << 1 | u8::from(exceptional) << 2)
    }
}
