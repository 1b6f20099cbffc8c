//! How far each thing may go.

use std::sync::Arc;
use std::time::Duration;

/// How far each thing may go. Whatever a peer can make us hold or do is bounded by one of these.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time. At the limit accepting stops, and the kernel's backlog holds the rest.
    pub connections_max: usize,
    /// Connections accepted from one listener in one turn.
    pub accepts_per_turn: usize,
    /// Bytes read from one connection in one turn. Must be at least 1.
    pub read_bytes_per_turn: usize,
    /// Bytes read from one connection in a second, and at once after a second of rest. Beyond, reading is paused: the
    /// peer's bytes wait in the kernel, and TCP slows it down. Must be at least 1; `None`: as fast as they come.
    pub read_bytes_per_s: Option<u64>,
    /// Messages of one connection that are served in one turn. The rest waits, behind the other connections.
    pub messages_per_turn: usize,
    /// Time in one turn after which a connection's next message waits for the next turn, because cheap bytes can be
    /// expensive messages. The message that is being served is not interrupted.
    pub connection_time_per_turn: Duration,
    /// Time for serving in one turn. What has not been served waits for the next turn; connections that had their share of the last turn get at least half of the time
    /// that the queue took. Freeing closed connections gets the same time once more.
    pub serve_time_per_turn: Duration,
    /// Datagrams received on one socket in one turn.
    pub datagrams_per_turn: usize,
    /// Timers fired at one look at the clock. (Timers without a delay are not counted.)
    pub timers_per_turn: usize,
    /// Bytes that may wait for the rest of their message. The handler's own limit on a message should
    /// strike first; this one ends the connection where it doesn't.
    pub inbox_bytes_max: usize,
    /// With this many bytes in its outbox, a connection's messages are no longer served. With more than half of it (the low mark),
    /// nothing more is read from the peer.
    pub outbox_bytes_high: usize,
    /// Beyond this, the connection is closed: a slow reader must not cost more.
    pub outbox_bytes_max: usize,
    /// Handshakes that are taken a step further in one turn. The others wait, behind the established connections.
    pub handshakes_per_turn: usize,
    /// Time in one turn after which the other handshakes wait. A step takes a tenth of a millisecond of computing with
    /// an elliptic curve, and some milliseconds with a long RSA key.
    pub handshake_time_per_turn: Duration,
    /// Connections of one listener that may be in their handshake. At the limit it accepts no connection until one
    /// is through, or has run out of time: the flood must wait, and not the established connections.
    pub handshakes_max: usize,
    /// Time for [`Transport::establish`](super::Transport::establish), from the first moment, whatever bytes arrive.
    pub handshake_within: Duration,
    /// Time for a message to become whole, from when its beginning had to wait ...
    pub message_within: Duration,
    /// ... plus a second for each of this many bytes that have arrived. So the length of a message bounds its time. After that,
    /// its sender is [overdue](super::Handler::on_overdue). At least 1.
    pub message_bytes_per_s_min: u64,
    /// A connection over which nothing moved for this long is closed.
    pub idle_after: Duration,
    /// A peer that took nothing for this long, while we had something for it, is closed ...
    pub stall_after: Duration,
    /// ... and so is one that takes less than this on average: each byte that it takes buys it this part of a second, up
    /// to `stall_after` once more. (That is what the kernel took: the peer may read it later.) At least 1.
    pub stall_bytes_per_s_min: u64,
    /// After our end of file, how long we read on (and drop what comes) for the peer's. Closing
    /// earlier would answer a late byte with RST, which can destroy our last reply on its way.
    pub linger_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 10_000,
            accepts_per_turn: 64,
            read_bytes_per_turn: super::buffer::LARGE_BYTES,
            read_bytes_per_s: None,
            messages_per_turn: 2000,
            connection_time_per_turn: Duration::from_micros(200),
            serve_time_per_turn: Duration::from_millis(4),
            datagrams_per_turn: 64,
            timers_per_turn: 1024,
            inbox_bytes_max: 1024 * 1024,
            outbox_bytes_high: 64 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            handshakes_per_turn: 16,
            handshake_time_per_turn: Duration::from_millis(1),
            handshakes_max: 4096,
            handshake_within: Duration::from_secs(10),
            message_within: Duration::from_secs(30),
            message_bytes_per_s_min: 500,
            idle_after: Duration::from_secs(300),
            stall_after: Duration::from_secs(30),
            stall_bytes_per_s_min: 500,
            linger_for: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Sizes beyond this are not believed: buffers index their bytes with 32 bits.
    pub const BYTES_MAX: usize = 1 << 30;

    /// Brings every field to where the reactor can work: at least 1 where 0 would stop it, and sizes
    /// within [`Limits::BYTES_MAX`].
    pub(super) fn checked(limits: impl Into<Arc<Limits>>) -> Arc<Limits> {
        let mut limits = limits.into();
        Arc::make_mut(&mut limits).check();
        limits
    }

    fn check(&mut self) {
        for size in [
            &mut self.read_bytes_per_turn,
            &mut self.inbox_bytes_max,
            &mut self.outbox_bytes_high,
            &mut self.outbox_bytes_max,
        ] {
            *size = (*size).clamp(1, Limits::BYTES_MAX);
        }
        self.outbox_bytes_high = self.outbox_bytes_high.min(self.outbox_bytes_max);
        for count in [
            &mut self.accepts_per_turn,
            &mut self.datagrams_per_turn,
            &mut self.handshakes_max,
            &mut self.handshakes_per_turn,
            &mut self.messages_per_turn,
            &mut self.timers_per_turn,
        ] {
            *count = (*count).max(1);
        }
        self.connections_max = self.connections_max.min(u32::MAX as usize);
        self.read_bytes_per_s = self.read_bytes_per_s.map(|rate| rate.max(1));
        self.message_bytes_per_s_min = self.message_bytes_per_s_min.max(1);
        self.stall_bytes_per_s_min = self.stall_bytes_per_s_min.max(1);
    }

    /// Returns how long a message may take of which `bytes` have arrived.
    pub(super) fn message_time(&self, bytes: usize) -> Duration {
        let bought = Duration::from_millis(bytes as u64 * 1000 / self.message_bytes_per_s_min);
        self.message_within.saturating_add(bought)
    }

    /// How much time a peer buys that takes `bytes` of what waits for it.
    pub(super) fn taking_time(&self, bytes: usize) -> Duration {
        Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.stall_bytes_per_s_min)
    }

    #[inline]
    pub(super) fn outbox_bytes_low(&self) -> usize {
        self.outbox_bytes_high / 2
    }
}
