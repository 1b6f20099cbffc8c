//! Reasons to refuse a connection, a request or a datagram.

/// Why it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A deny entry names it.
    Denied,
    /// There is an allow list, and it does not name it.
    NotAllowed,
    /// It has as many connections as one address may have.
    TooMany,
    /// It comes by way of a proxy, which does not say whom it brings.
    NoHeader,
    /// Likewise, and what the proxy says makes no sense.
    BadHeader,
    /// It makes new connections, or sends datagrams, faster than one address may.
    TooFast,
    /// Its request is for a host that is not ours.
    OtherHost,
    /// It asks for a WebSocket on behalf of another site's page.
    OtherOrigin,
    /// It began with HTTP or TLS where lines are spoken.
    OtherProtocol,
    /// A datagram's sender is one of our own sockets: it is forged, or an answer of ours that has come back.
    OwnSocket,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 10] = [
        Reason::Denied,
        Reason::NotAllowed,
        Reason::TooMany,
        Reason::NoHeader,
        Reason::BadHeader,
        Reason::TooFast,
        Reason::OtherHost,
        Reason::OtherOrigin,
        Reason::OtherProtocol,
        Reason::OwnSocket,
    ];

    /// Its name in the log and in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Denied => "denied",
            Reason::NotAllowed => "not-allowed",
            Reason::TooMany => "too-many",
            Reason::NoHeader => "no-proxy-header",
            Reason::BadHeader => "bad-proxy-header",
            Reason::TooFast => "too-fast",
            Reason::OtherHost => "other-host",
            Reason::OtherOrigin => "other-origin",
            Reason::OtherProtocol => "other-protocol",
            Reason::OwnSocket => "own-socket",
        }
    }
}
