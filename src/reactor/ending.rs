//! Why a connection ended.

use std::io;

/// Why a connection ended. The same words in the log, the counters and the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides said everything and said so.
    Finished,
    /// The peer reset the connection, or was gone when we wrote.
    Reset,
    /// An outgoing connection, or a handshake, came to nothing.
    Unestablished(io::ErrorKind),
    /// The transport failed in another way.
    Failed(io::ErrorKind),
    /// The handshake took longer than `handshake_within`.
    HandshakeTimeout,
    /// A message was not whole in time: after `message_within`, and what its bytes had bought.
    MessageTimeout,
    /// Nothing moved for `idle_after`.
    Idle,
    /// The peer took nothing for `stall_after` while we had something for it.
    Stalled,
    /// The peer did not answer our end of file with its own within `linger_for`.
    Lingered,
    /// More than `outbox_bytes_max` waited for the peer.
    SlowReader,
    /// As much as `inbox_bytes_max` waited for the rest of a message.
    InboxFull,
    /// The peer's bytes ended without an end of file (in TLS: without a close_notify). An attacker in between may have cut off
    /// the last message, so it was not served.
    Truncated,
    /// The peer broke the rules of its protocol.
    Violation,
    /// The handler refused it while it was being opened ([`Handler::vet`](super::Handler::vet)): for one, because of what a proxy's
    /// header said.
    Refused,
    /// The rules have changed, and no longer allow the peer.
    Disallowed,
    /// The handler closed it.
    Closed,
    /// The server stopped, and let it finish first.
    Drained,
    /// The server stopped and could not wait any longer.
    Cut,
}

impl CloseReason {
    /// The names of all reasons, in the order of their [rows](CloseReason::row).
    pub const NAMES: [&'static str; 18] = [
        "finished",
        "reset",
        "unestablished",
        "failed",
        "handshake-timeout",
        "message-timeout",
        "idle",
        "stalled",
        "lingered",
        "slow-reader",
        "inbox-full",
        "truncated",
        "violation",
        "refused",
        "disallowed",
        "closed",
        "drained",
        "cut",
    ];

    /// How many reasons there are.
    pub const COUNT: usize = CloseReason::NAMES.len();

    /// The reason's place in a table of counters.
    pub fn row(self) -> usize {
        match self {
            CloseReason::Finished => 0,
            CloseReason::Reset => 1,
            CloseReason::Unestablished(_) => 2,
            CloseReason::Failed(_) => 3,
            CloseReason::HandshakeTimeout => 4,
            CloseReason::MessageTimeout => 5,
            CloseReason::Idle => 6,
            CloseReason::Stalled => 7,
            CloseReason::Lingered => 8,
            CloseReason::SlowReader => 9,
            CloseReason::InboxFull => 10,
            CloseReason::Truncated => 11,
            CloseReason::Violation => 12,
            CloseReason::Refused => 13,
            CloseReason::Disallowed => 14,
            CloseReason::Closed => 15,
            CloseReason::Drained => 16,
            CloseReason::Cut => 17,
        }
    }

    /// The reason's name in the log and in the counters.
    pub fn name(self) -> &'static str {
        CloseReason::NAMES[self.row()]
    }

    /// The reason that an error of a read or a write is for the connection's end.
    #[cold]
    pub(super) fn of(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
            kind => CloseReason::Failed(kind),
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseReason::Unestablished(kind) | CloseReason::Failed(kind) => {
                write!(f, "{} ({kind})", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}
