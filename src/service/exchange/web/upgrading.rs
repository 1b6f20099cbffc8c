//! The upgrade: a request makes a WebSocket of its connection. What makes such a request right: see `service::upgrade`.

use crate::guard::Reason;
use crate::protocol::http::{Request, Response};
use crate::protocol::websocket::WebSocket;
use crate::protocol::{Protocol, Web};
use crate::reactor::{Board, Peer};
use crate::service::conversation::Conversation;
use crate::service::exchange::Exchange;
use crate::service::upgrade::{OTHER_ORIGIN, accept_key};
use crate::service::{Service, Switchboard};
use crate::transport::Stream;

impl<S: Service> Exchange<S> {
    /// Whether the request asks for a WebSocket, and the service takes them.
    pub(super) fn is_to_upgrade(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
    ) -> bool {
        request.lists("upgrade", "websocket")
            && self.service.takes_websocket(&mut Switchboard::new(board), from, request)
    }

    /// Makes the connection a WebSocket, or answers what is wrong with the request.
    pub(super) fn upgrade(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
    ) {
        let is_secure = matches!(board.transport(from), Some(Stream::Tls(_)));
        let Some(conversation) = board.state(from) else { return };
        let Some(place) = self.places.listener(conversation.listener()) else { return };
        let message_bytes_max = place.message_bytes_max.min(1 << 30) as u32;
        let key = match accept_key(request, &place.sites, is_secure) {
            Ok(key) => key,
            Err((status, problem)) => return self.refuse_upgrade(board, from, request, status, problem),
        };
        let spoken = self.service.subprotocols(&mut Switchboard::new(board), from);
        let subprotocol = spoken.iter().copied().find(|name| request.lists("sec-websocket-protocol", name));
        let Some((conversation, mut outbox)) = board.outbox(from) else { return };
        let (field, name) = match subprotocol {
            Some(name) => ("\r\nSec-WebSocket-Protocol: ", name),
            None => ("", ""),
        };
        for part in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            &key,
            field,
            name,
            "\r\n\r\n",
        ] {
            outbox.put(part.as_bytes());
        }
        conversation.protocol = Protocol::Web(Box::new(Web::WebSocket(WebSocket::new(message_bytes_max))));
        self.service.on_upgrade(&mut Switchboard::new(board), from);
    }

    fn refuse_upgrade(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
        status: u16,
        problem: &str,
    ) {
        if status == OTHER_ORIGIN {
            let origin = String::from_utf8_lossy(request.field("origin").unwrap_or_default());
            let what = format!(", for a page of {origin:?},");
            self.places.refuse_request(board, from, Reason::OtherOrigin, &what);
        }
        let mut response = Response::new(status).field("Content-Type", "text/plain; charset=utf-8");
        if status == 426 {
            response = response.field("Upgrade", "websocket").field("Sec-WebSocket-Version", "13");
        }
        let text = format!("{problem}\n");
        Switchboard::new(board).respond(from, &response, text.as_bytes());
    }
}
