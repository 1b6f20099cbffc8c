//! The interface above the core: what the bytes mean.

use std::io;

use super::board::Board;
use super::buffer::Buffer;
use super::datagram::Route;
use super::ending::CloseReason;
use super::timers::{Moment, Timer};
use super::token::Peer;
use super::transport::{Opening, Transport};

/// What the reactor calls. All of it runs on the loop's thread: a callback that blocks, blocks everyone.
///
/// Callbacks never nest. A handler gets the [`Board`] and notes there what should happen: bytes are
/// written, and connections freed, after it has returned.
pub trait Handler: Sized {
    /// How this handler's bytes move.
    type Transport: Transport;

    /// What the handler keeps for each connection.
    type State;

    /// A listener has accepted a connection. Returns its state, or `None` to refuse it: it is closed at once, and costs nothing
    /// more. If the transport needs to know something before the first byte, set it here.
    fn admit(
        &mut self,
        listener: usize,
        transport: &mut Self::Transport,
        address: &<Self::Transport as Transport>::Address,
        now: Moment,
    ) -> Option<Self::State>;

    /// A step of [`Transport::establish`] has succeeded or failed. Returns whether to go on: with `false`, the connection is
    /// refused ([`CloseReason::Refused`]). If the step has failed, the connection ends in any case.
    fn vet(
        &mut self,
        _state: &mut Self::State,
        _transport: &mut Self::Transport,
        _step: Result<Opening, &io::Error>,
        _now: Moment,
    ) -> bool {
        true
    }

    /// Bytes can flow, in both directions.
    fn on_open(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {}

    /// Bytes came. Consume what makes whole messages and leave the rest: it will be there next time,
    /// with more behind it. Before each message, ask [`Board::admit_message`] whether to go on; where the
    /// outbox is congested the call comes again when it has drained, and where the connection's share of
    /// this turn is spent it comes again in the next one, new bytes or not.
    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer);

    /// The peer's end of file: nothing comes after what lies in `inbox`, of which every whole message
    /// has been served. Our own direction is still open; the default ends it too, behind the replies.
    fn on_finish(&mut self, board: &mut BoardOf<Self>, from: Peer, _inbox: &mut Buffer) {
        board.finish(from);
    }

    /// The outbox had risen above its low mark and has fallen to it or below: there is [room](Board::room) again. Not called
    /// once our direction is finishing: nothing more can be sent then.
    fn on_drain(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {}

    /// The rest of a message has not come in time ([`Limits::message_within`](super::Limits::message_within)). The default ends the conversation.
    fn on_overdue(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        board.finish_because(peer, CloseReason::MessageTimeout);
    }

    /// Nothing has moved for [`Limits::idle_after`](super::Limits::idle_after). If it returns true, the
    /// peer gets the same time once more; a handler does so when it has just sent a ping. With false, the default, the
    /// connection is closed.
    fn on_idle(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) -> bool {
        false
    }

    /// The reactor comes to its end, and every whole message that had arrived from the peer has been served. The default
    /// finishes the connection. (If the peer had finished its direction, `on_finish` came before.) A handler that
    /// returns false finishes it later. Until then the peer is served, and this is called again after each time.
    fn on_stop(&mut self, board: &mut BoardOf<Self>, peer: Peer) -> bool {
        board.finish_because(peer, CloseReason::Drained);
        true
    }

    /// A datagram came to the datagram socket with this index. It may be empty. An answer goes the same [`Route`].
    fn on_datagram(&mut self, _board: &mut BoardOf<Self>, _socket: usize, _route: Route, _bytes: &[u8]) {}

    /// A timer is due: see [`Board::set_timer`].
    fn on_timer(&mut self, _board: &mut BoardOf<Self>, _timer: Timer) {}

    /// Another thread called `wake` on a clone of [`Reactor::waker`](super::Reactor::waker). Several
    /// calls may arrive as one.
    fn on_wake(&mut self, _board: &mut BoardOf<Self>) {}

    /// The connection is gone. (It may never have opened.) No later connection gets its name.
    fn on_close(
        &mut self,
        _board: &mut BoardOf<Self>,
        _peer: Peer,
        _state: Self::State,
        _reason: CloseReason,
    ) {
    }
}

/// The board that a handler is lent.
pub type BoardOf<H> = Board<<H as Handler>::Transport, <H as Handler>::State>;
