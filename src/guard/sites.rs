//! Sites: which pages may speak to a listener, and by which names it is reached.
//!
//! A browser runs pages of all sites, and lets any of them send requests to any address, also to one that strangers cannot
//! reach. Two fields tell what happens, and no page can write them: `Origin` says whose page it is, and `Host` says by
//! which name the browser found us.
//!
//! **Origins** (RFC 6454) are equal if scheme, host and port are, where a missing port is that of the scheme. A WebSocket is
//! opened for pages of our own origin and for listed ones. Where a proxy ends TLS before us, pages of `https://h` reach
//! us as `Host: h` without TLS; so without TLS both schemes are ours, and with TLS only `https` is.
//!
//! **Hosts**: a page of `evil.example` is of our own origin if its owner has its name resolve to our address after the page
//! was loaded (DNS rebinding). So a request is served under these names:
//!
//! - names that no stranger can point at us: IP addresses, names without a dot, `localhost` and `*.localhost` (RFC 6761),
//!   and `*.test`, which is in no public DNS (RFC 6761);
//! - those of `--host`;
//! - any name, if no `--host` is given and the connection did not come to a loopback address. What anybody on the network
//!   can reach is reached by names that we cannot know, and most of them are honest. `--host` closes this as well.
//!
//! A request without Host is none of a browser's, so it is served.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What holds at one listener. By default: pages of our own origin, and the names above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    origins: Vec<AllowedOrigin>,
    hosts: Vec<AllowedHost>,
}

/// Whose pages are let in beside our own, as `--origin` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: all pages.
    Any,
    /// `null`: pages that have no origin, such as local files. Every site can make such a page.
    Opaque,
    /// Pages of this one.
    Of(Origin),
}

/// Scheme, host and port of a page, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` where the scheme has no usual one and none is said.
    port: Option<u16>,
}

/// A name by which the server is reached, as `--host` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: any.
    Any,
    /// This one, in lower case.
    Named(String),
}

impl Sites {
    /// Pages of these origins and of our own, under these names.
    pub fn new(origins: Vec<AllowedOrigin>, hosts: Vec<AllowedHost>) -> Sites {
        Sites { origins, hosts }
    }

    /// The origins that are let in beside our own.
    pub fn origins(&self) -> &[AllowedOrigin] {
        &self.origins
    }

    /// The names that were given.
    pub fn hosts(&self) -> &[AllowedHost] {
        &self.hosts
    }

    /// Whether a request with this Host is served. `by_loopback`: whether its connection came to a loopback address; it is
    /// called where that decides.
    pub fn allows_host(&self, host: &[u8], by_loopback: impl FnOnce() -> bool) -> bool {
        // Once for each request: without an allocation.
        let Some((name, _)) = std::str::from_utf8(host).ok().and_then(split_port) else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        let allowed = |allowed: &AllowedHost| match allowed {
            AllowedHost::Any => true,
            AllowedHost::Named(named) => named.eq_ignore_ascii_case(name),
        };
        is_beyond_strangers(name)
            || self.hosts.iter().any(allowed)
            || (self.hosts.is_empty() && !by_loopback())
    }

    /// Whether a page of this origin may open a WebSocket on a connection with this Host. `is_secure`: whether the connection
    /// speaks TLS with us.
    pub fn allows_origin(&self, origin: &[u8], host: &[u8], is_secure: bool) -> bool {
        let text = std::str::from_utf8(origin).unwrap_or_default();
        let origin = Origin::parse(text);
        let own = || {
            let host = host.to_ascii_lowercase();
            let host = std::str::from_utf8(&host).ok().and_then(split_port);
            let (Some(origin), Some((name, port))) = (&origin, host) else { return false };
            let scheme = origin.scheme == "https" || (origin.scheme == "http" && !is_secure);
            scheme && origin.host == name && origin.port == port.or(usual_port(&origin.scheme))
        };
        let listed = |allowed: &AllowedOrigin| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Opaque => text == "null",
            AllowedOrigin::Of(listed) => Some(listed) == origin.as_ref(),
        };
        self.origins.iter().any(listed) || own()
    }
}

/// Whether nobody but the owner of this machine and of its network decides where this name leads.
fn is_beyond_strangers(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    match name.rsplit_once('.') {
        None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
        Some((_, last)) => {
            ["localhost", "test"].iter().any(|ours| last.eq_ignore_ascii_case(ours))
                || name.parse::<Ipv4Addr>().is_ok()
        }
    }
}

/// Host and port; `None` where the port is no number.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => match port.is_empty() {
            true => Some((name, None)),
            false if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((name, Some(port.parse().ok()?))),
            false => None,
        },
        _ => Some((host, None)),
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let text = text.to_ascii_lowercase();
        let (scheme, at) = text.split_once("://")?;
        let (host, port) = split_port(at)?;
        let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let well_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(of_scheme)
            && !host.is_empty()
            && is_host(host);
        well_formed.then(|| Origin {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port: port.or(usual_port(scheme)),
        })
    }
}

/// A name in ASCII, or an address; IPv6 in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port.filter(|port| usual_port(&self.scheme) != Some(*port)) {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowedOrigin::Any => f.write_str("*"),
            AllowedOrigin::Opaque => f.write_str("null"),
            AllowedOrigin::Of(origin) => origin.fmt(f),
        }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AllowedHost::Any => "*",
            AllowedHost::Named(name) => name,
        })
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    /// What no browser would ever send is refused, with what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(AllowedOrigin::Any),
            "null" => return Ok(AllowedOrigin::Opaque),
            "" => return Err("write an origin, like https://example.com, or * for all".into()),
            _ => {}
        }
        if text.contains('*') {
            return Err("an origin has no wildcard: name each one, or write * for all".into());
        }
        let Some((scheme, at)) = text.split_once("://") else {
            return Err(format!("an origin has a scheme: write https://{text}"));
        };
        let at = at.strip_suffix('/').unwrap_or(at);
        match scheme.to_ascii_lowercase().as_str() {
            "ws" => return Err(format!("it is the page's origin that counts: write http://{at}")),
            "wss" => return Err(format!("it is the page's origin that counts: write https://{at}")),
            "file" => {
                return Err("pages in files have no origin: browsers say null, and so does any site".into());
            }
            _ => {}
        }
        if let Some(end) = at.find(['/', '?', '#']) {
            return Err(format!("an origin has no path: write {scheme}://{}", &at[..end]));
        }
        if !at.is_ascii() {
            return Err("browsers send a name in ASCII: write its xn-- form".into());
        }
        match Origin::parse(&format!("{scheme}://{at}")) {
            Some(origin) => Ok(AllowedOrigin::Of(origin)),
            None => Err("write scheme, host and perhaps a port, like https://example.com:8443".into()),
        }
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    /// What no browser would ever send is refused, with what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(AllowedHost::Any);
        }
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if name.contains('*') {
            return Err("a host has no wildcard: name each one, or write * for any".into());
        }
        if !name.is_ascii() {
            return Err("browsers send a name in ASCII: write its xn-- form".into());
        }
        if name.is_empty() || name.contains('/') {
            return Err("write the name alone, like example.com".into());
        }
        if name.parse::<Ipv6Addr>().is_ok() {
            return Ok(AllowedHost::Named(format!("[{name}]")));
        }
        match split_port(name) {
            Some((_, None)) if is_host(name) => Ok(AllowedHost::Named(name.to_owned())),
            Some((host, Some(_))) => Err(format!("any port is right: write {host}")),
            _ => Err("write the name alone, like example.com".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(origins: &[&str], hosts: &[&str]) -> Sites {
        let origins = origins.iter().map(|it| it.parse().expect(it)).collect();
        Sites::new(origins, hosts.iter().map(|it| it.parse().expect(it)).collect())
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_usual_port() {
        let none = sites(&[], &[]);
        for (origin, host, plain, secure) in [
            ("http://h", "h", true, false),
            ("https://h", "h", true, true),
            ("https://h", "h:443", true, true),
            ("https://h:443", "h", true, true),
            ("http://h", "h:80", true, false),
            ("http://h:80", "H", true, false),
            ("HTTPS://H", "h:443", true, true),
            ("https://h", "h:80", false, false),
            ("http://h", "h:443", false, false),
            ("http://h:8080", "h:8080", true, false),
            ("https://h:8080", "h:8080", true, true),
            ("http://h:8080", "h:8081", false, false),
            ("http://h", "h:8080", false, false),
            ("http://[::1]:8080", "[::1]:8080", true, false),
            ("ftp://h", "h", false, false),
            ("ws://h", "h", false, false),
            ("://h", "h", false, false),
            ("h", "h", false, false),
            ("", "", false, false),
            ("http://", "", false, false),
            ("null", "null", false, false),
            ("http://h/", "h", false, false),
            ("http://user@h", "h", false, false),
            ("http://h.evil.example", "h", false, false),
            ("http://h:x", "h:x", false, false),
            ("http://h:99999", "h:99999", false, false),
        ] {
            let allows = |secure| none.allows_origin(origin.as_bytes(), host.as_bytes(), secure);
            assert_eq!((allows(false), allows(true)), (plain, secure), "a page of {origin:?}, Host {host:?}");
        }
        assert!(!none.allows_origin(b"http://\xff", b"\xff", false));
    }

    #[test]
    fn listed_origins_are_let_in_however_they_are_written() {
        for (listed, origin, allowed) in [
            ("https://example.com", "https://example.com", true),
            ("https://example.com:443", "https://example.com", true),
            ("https://example.com/", "https://example.com", true),
            ("HTTPS://Example.com", "https://example.com", true),
            ("http://example.com", "https://example.com", false),
            ("https://example.com:8443", "https://example.com", false),
            ("chrome-extension://abc", "chrome-extension://abc", true),
            ("null", "null", true),
            ("https://example.com", "null", false),
            ("*", "null", true),
            ("*", "anything at all", true),
        ] {
            assert_eq!(
                sites(&[listed], &[]).allows_origin(origin.as_bytes(), b"h", true),
                allowed,
                "{listed}"
            );
        }
    }

    #[test]
    fn an_origin_that_no_page_can_have_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "like https://example.com"),
            ("example.com", "write https://example.com"),
            ("https://*.example.com", "no wildcard"),
            ("https://example.com/chat", "write https://example.com"),
            ("https://example.com?x", "write https://example.com"),
            ("wss://example.com", "write https://example.com"),
            ("ws://example.com:8080", "write http://example.com:8080"),
            ("file:///tmp/x.html", "null"),
            ("https://bücher.example", "xn--"),
            ("https://", "like https://example.com:8443"),
            ("https://example.com:https", "like https://example.com:8443"),
            ("https://a b", "like https://example.com:8443"),
            ("https://user@example.com", "like https://example.com:8443"),
        ] {
            let problem = text.parse::<AllowedOrigin>().expect_err(text);
            assert!(problem.contains(hint) && !problem.contains('\n'), "{text}: {problem}");
        }
    }

    #[test]
    fn a_name_that_strangers_can_point_at_us_is_refused_on_loopback() {
        let allows = |host: &str| sites(&[], &[]).allows_host(host.as_bytes(), || true);
        for host in [
            "",
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:8080",
            "127.0.0.1:8080",
            "192.0.2.7",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "nas",
            "my_box:80",
            "shop.test",
        ] {
            assert!(allows(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example.",
            "evillocalhost.com",
            "127.0.0.1.",
            "1.2.3",
            "[::1].evil.example",
            "[evil.example]",
            "h:x",
            "a,b",
            "evil%2eexample",
        ] {
            // An address with a dot behind it is an address all the same.
            assert_eq!(allows(host), host == "127.0.0.1.", "{host}");
        }
        assert!(!sites(&[], &[]).allows_host(b"\xff", || true));
    }

    #[test]
    fn names_that_are_given_are_served_and_others_are_not() {
        let given = sites(&[], &["Chat.example.com", "other.example."]);
        for by_loopback in [true, false] {
            let allows = |host: &str| given.allows_host(host.as_bytes(), || by_loopback);
            assert!(
                allows("chat.example.com") && allows("CHAT.EXAMPLE.COM.:8443") && allows("other.example")
            );
            assert!(allows("localhost") && allows("192.0.2.7:80"), "health checks go on");
            assert!(!allows("evil.example") && !allows("x.chat.example.com"));
        }
        assert!(sites(&[], &["*"]).allows_host(b"evil.example", || true));
    }

    #[test]
    fn where_strangers_connect_any_name_is_right_until_one_is_given() {
        assert!(sites(&[], &[]).allows_host(b"www.example.com", || false));
        assert!(!sites(&[], &["www.example.com"]).allows_host(b"evil.example", || false));
    }

    #[test]
    fn a_host_that_no_browser_sends_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "like example.com"),
            ("https://example.com", "like example.com"),
            ("example.com:8080", "write example.com"),
            ("[::1]:80", "write [::1]"),
            ("*.example.com", "no wildcard"),
            ("bücher.example", "xn--"),
            ("a b", "like example.com"),
        ] {
            let problem = text.parse::<AllowedHost>().expect_err(text);
            assert!(problem.contains(hint) && !problem.contains('\n'), "{text}: {problem}");
        }
        assert_eq!("::1".parse(), Ok(AllowedHost::Named("[::1]".into())));
    }
}
