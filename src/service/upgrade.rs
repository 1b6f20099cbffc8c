//! The handshake that makes a WebSocket of an HTTP connection (RFC 6455 section 4.2), the server's side of it.
//!
//! A browser lets any page open a WebSocket to anywhere, and sends along what it knows of that place, cookies too; all that
//! the server is told is the page's Origin. So only pages of our own origin are let in, and those that are listed; see
//! [`Sites`]. Programs that are no browsers send no Origin, and are no danger of that kind.

use tungstenite::handshake::derive_accept_key;

use crate::guard::Sites;
use crate::protocol::http::{Request, Version};

/// The status of a refusal because of the page's origin, and of no other.
pub(super) const OTHER_ORIGIN: u16 = 403;

/// The key that answers a right handshake; what is wrong with another one, and the status that says so. `is_secure`: whether
/// the connection speaks TLS with us.
pub(super) fn accept_key(
    request: &Request<'_>,
    sites: &Sites,
    is_secure: bool,
) -> Result<String, (u16, &'static str)> {
    if request.method != "GET" || request.version != Version::Http11 || !request.body.is_empty() {
        return Err((400, "a WebSocket begins with a GET of HTTP/1.1"));
    }
    if !request.lists("upgrade", "websocket") || !request.lists("connection", "upgrade") {
        return Err((426, "only WebSockets are served here"));
    }
    if request.field("sec-websocket-version") != Some(b"13") {
        return Err((426, "the version of a WebSocket is 13"));
    }
    let mut keys = request.fields().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = match (keys.next(), keys.next()) {
        (Some((_, key)), None) if is_key(key) => key,
        _ => return Err((400, "Sec-WebSocket-Key is not 16 bytes in base64")),
    };
    let host = request.field("host").unwrap_or_default();
    let mut origins = request.fields().filter(|(name, _)| name.eq_ignore_ascii_case("origin"));
    match origins.all(|(_, origin)| sites.allows_origin(origin, host, is_secure)) {
        true => Ok(derive_accept_key(key)),
        false => Err((OTHER_ORIGIN, "pages of that origin are not allowed: --origin ORIGIN lets them in")),
    }
}

/// 16 bytes are 22 signs and two of padding.
fn is_key(key: &[u8]) -> bool {
    let sign = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(sign) && key.ends_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::{self, Http, Step};

    /// The handshake of RFC 6455 section 1.2, with another field or without one.
    fn handshake(name: &str, line: &str, origins: &[&str]) -> Result<String, u16> {
        let right = [
            ("GET", "GET /chat HTTP/1.1"),
            ("Host", "Host: server.example.com"),
            ("Upgrade", "Upgrade: websocket"),
            ("Connection", "Connection: keep-alive, Upgrade"),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            ("Origin", "Origin: http://server.example.com"),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13"),
            (
                "Sec-WebSocket-Extensions",
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            ),
        ];
        let lines = right.iter().map(|(key, right)| if *key == name { line } else { right });
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let head = lines.join("\r\n") + "\r\n\r\n";
        let (mut fields, mut body, mut http) = (http::fields(), Vec::new(), Http::new(100));
        let Ok(Step::Request { request, .. }) =
            http.decode(head.as_bytes(), &[0; 29], &mut fields, &mut body)
        else {
            panic!("{head:?}");
        };
        let origins = origins.iter().map(|origin| origin.parse().expect("an origin")).collect();
        accept_key(&request, &Sites::new(origins, Vec::new()), false).map_err(|(status, _)| status)
    }

    #[test]
    fn the_handshake_of_the_standard_has_its_answer() {
        let right = Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert_eq!(handshake("", "", &[]), right);
        for (name, line) in [
            ("Upgrade", "Upgrade: h2c, WebSocket"),
            ("Connection", "connection: upgrade"),
            ("Origin", ""),
            ("Origin", "Origin: https://SERVER.example.com"),
            ("Origin", "Origin: http://server.example.com:80"),
            ("Host", "Host: server.example.com:80"),
            ("Sec-WebSocket-Extensions", ""),
        ] {
            assert_eq!(handshake(name, line, &[]), right, "{line}");
        }
    }

    #[test]
    fn a_wrong_one_is_told_what_is_wrong() {
        for (name, line, status) in [
            ("GET", "POST /chat HTTP/1.1", 400),
            ("GET", "GET /chat HTTP/1.0", 400),
            ("Upgrade", "", 426),
            ("Upgrade", "Upgrade: websockets", 426),
            ("Connection", "", 426),
            ("Connection", "Connection: keep-alive", 426),
            ("Sec-WebSocket-Version", "", 426),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
            ("Sec-WebSocket-Key", "", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: \"GhlIHNhbXBsZSBub25jZQ==", 400),
            ("Origin", "Origin: http://evil.example.com", 403),
            ("Origin", "Origin: http://server.example.com.evil.com", 403),
            ("Origin", "Origin: http://server.example.com:8080", 403),
            ("Origin", "Origin: null", 403),
            ("Origin", "Origin: ftp://server.example.com", 403),
            ("Origin", "Origin: http://server.example.com\r\nOrigin: http://evil.example.com", 403),
        ] {
            assert_eq!(handshake(name, line, &[]), Err(status), "{line}");
        }
    }

    #[test]
    fn other_origins_are_let_in_where_they_are_listed() {
        let other = "Origin: https://other.example.com";
        for (origins, allowed) in [
            (&["https://other.example.com"][..], true),
            (&["https://x", "HTTPS://other.example.com"], true),
            (&["*"], true),
            (&["https://other.example.com:443"], true),
            (&["http://other.example.com"], false),
        ] {
            assert_eq!(handshake("Origin", other, origins).is_ok(), allowed, "{origins:?}");
        }
    }
}
