//! Which listeners read each option of `serve`. An option that no listener reads is an error: otherwise the user believes
//! that it does something.
//!
//! Invariant: each option has its line in [`AUDIENCES`], and a test compares them with clap's list.

use super::failure::Failure;
use super::options::{Options, Proxies};
use crate::endpoint::Endpoint;
use crate::protocol::Framing;

/// Who reads an option.
#[derive(Debug, Clone, Copy)]
enum Audience {
    /// The process does, whatever it serves.
    Anybody,
    /// Listeners of a kind do.
    Listeners(Kind),
    /// These services do.
    Services(&'static [&'static str]),
}

use Audience::{Anybody, Listeners, Services};
use Kind::{Addressed, Counted, Guarded, Http, Ip, Messages, Streams, Tcp, Tls, Udp, Unix};

/// By clap's names of the options.
const AUDIENCES: &[(&str, Audience)] = &[
    ("service", Anybody),
    ("listen", Anybody),
    ("config", Anybody),
    ("message", Services(&["reply"])),
    ("root", Services(&["web"])),
    ("listing", Services(&["web"])),
    ("access_log", Services(&["web"])),
    ("name", Services(&["chat", "relay"])),
    ("slow_readers", Services(&["chat"])),
    ("messages_per_member", Services(&["chat"])),
    ("joins_per_ip", Services(&["chat"])),
    ("rooms_max", Services(&["chat"])),
    ("tick", Services(&["relay"])),
    ("players_max", Services(&["relay"])),
    ("metrics", Listeners(Http)),
    ("origin", Listeners(Http)),
    ("host", Listeners(Http)),
    ("connections_max", Listeners(Streams)),
    ("allow", Listeners(Addressed)),
    ("deny", Listeners(Addressed)),
    ("allow_file", Listeners(Addressed)),
    ("deny_file", Listeners(Addressed)),
    ("connections_per_ip_max", Listeners(Counted)),
    ("accepts_per_ip", Listeners(Counted)),
    ("proxy_protocol", Listeners(Streams)),
    ("datagrams_per_ip", Listeners(Udp)),
    ("bytes_per_s", Listeners(Streams)),
    ("amplify", Listeners(Udp)),
    ("cert", Listeners(Tls)),
    ("key", Listeners(Tls)),
    ("client_ca", Listeners(Tls)),
    ("self_signed", Listeners(Tls)),
    ("self_signed_to", Listeners(Tls)),
    ("handshake_within", Listeners(Guarded)),
    ("message_within", Listeners(Messages)),
    ("idle_after", Listeners(Streams)),
    ("stall_after", Listeners(Streams)),
    ("drain_for", Anybody),
    ("message_bytes_max", Listeners(Messages)),
    ("outbox_bytes_max", Listeners(Streams)),
    ("backlog", Listeners(Streams)),
    ("keepalive", Listeners(Tcp)),
    ("reuse_port", Listeners(Ip)),
    ("unix_mode", Listeners(Unix)),
    ("take_over", Anybody),
    ("log_level", Anybody),
];

/// Listeners that an option is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Socket files.
    Unix,
    /// Datagrams.
    Udp,
    /// TLS, with whatever is spoken over it.
    Tls,
    /// TLS, or a PROXY header before anything else.
    Guarded,
    /// TCP, with TLS or without.
    Tcp,
    /// TCP and UDP.
    Ip,
    /// Whose peers have addresses: TCP, UDP, and Unix sockets behind proxies that say them.
    Addressed,
    /// The same, with connections.
    Counted,
    /// Connections.
    Streams,
    /// Connections on which messages have an end.
    Messages,
    /// HTTP and WebSocket.
    Http,
}

impl Kind {
    fn fits(self, endpoint: &Endpoint, options: &Options) -> bool {
        let is_tls = matches!(endpoint, Endpoint::Tls(..));
        let is_tcp = is_tls || matches!(endpoint, Endpoint::Tcp(..));
        let is_udp = matches!(endpoint, Endpoint::Udp(_));
        let is_unix = matches!(endpoint, Endpoint::Unix(..));
        let says_addresses = is_unix && options.proxy_protocol.contains(&Proxies::Unix);
        match self {
            Unix => is_unix,
            Udp => is_udp,
            Tls => is_tls,
            Guarded => is_tls || !is_udp && !options.proxy_protocol.is_empty(),
            Tcp => is_tcp,
            Ip => is_tcp || is_udp,
            Addressed => is_tcp || is_udp || says_addresses,
            Counted => is_tcp || says_addresses,
            Streams => !is_udp,
            Messages => !is_udp && endpoint.framing() != Framing::Raw,
            #[cfg(feature = "web")]
            Http => matches!(endpoint.framing(), Framing::Http | Framing::WebSocket),
            #[cfg(not(feature = "web"))]
            Http => false,
        }
    }

    /// As in "is for ...".
    fn name(self) -> &'static str {
        match self {
            Unix => "unix: listeners",
            Udp => "udp:// listeners",
            Tls => "tls://, https:// and wss:// listeners",
            Guarded => "tls://, https:// and wss:// listeners, and those behind --proxy-protocol",
            Tcp => "listeners over TCP",
            Ip => "listeners over TCP and UDP",
            Addressed => "listeners over TCP and UDP, and those behind --proxy-protocol unix",
            Counted => "listeners over TCP, and those behind --proxy-protocol unix",
            Streams => "listeners with connections, not udp://",
            Messages => "listeners whose messages have an end, such as tcp+lines:// or http://",
            Http => "http://, https://, ws:// and wss:// listeners",
        }
    }
}

/// A listener, and the name of its service.
type Listener<'a> = (&'a Endpoint, &'static str);

/// Refuses an option that the process was given, and that none of its listeners reads.
pub(super) fn check_process(options: &Options, listeners: &[Listener<'_>]) -> Result<(), Failure> {
    for (option, audience) in given(options) {
        match audience {
            Listeners(kind) if !listeners.iter().any(|it| kind.fits(it.0, options)) => {
                return Err(Failure::Usage(format!(
                    "{option} is for {}, and there is none: listen on one, or leave it out",
                    kind.name()
                )));
            }
            Services(services) if !listeners.iter().any(|it| services.contains(&it.1)) => {
                return Err(Failure::Usage(format!(
                    "{option} is for the service {}, and no listener has it: write serve {}, or leave it out",
                    services.join(" or "),
                    services[0]
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses an option of one `[[listener]]` that this one does not read; what `process` says is for others as well.
pub(super) fn check_table(
    options: &Options,
    process: &Options,
    listeners: &[Listener<'_>],
) -> Result<(), Failure> {
    for (option, audience) in given(options).filter(|(option, _)| !given(process).any(|it| it.0 == *option)) {
        for (endpoint, service) in listeners {
            let misplaced = match audience {
                Listeners(kind) if !kind.fits(endpoint, options) => {
                    format!("{option} is for {}, and this one is {endpoint}", kind.name())
                }
                Services(services) if !services.contains(service) => {
                    format!(
                        "{option} is for the service {}, and this listener's is {service}",
                        services.join(" or ")
                    )
                }
                _ => continue,
            };
            return Err(Failure::Usage(format!(
                "{misplaced}: leave it out, or write it above all listeners"
            )));
        }
    }
    Ok(())
}

/// The options that were given, as they are written, with their audiences.
fn given(options: &Options) -> impl Iterator<Item = (String, Audience)> {
    let all = AUDIENCES.iter().filter(|(id, _)| options.given.iter().any(|given| given == id));
    all.map(|(id, audience)| (format!("--{}", id.replace('_', "-")), *audience))
}

#[cfg(all(test, feature = "web"))]
mod tests {
    use super::*;

    #[test]
    fn each_option_of_serve_has_an_audience_and_no_other_has() {
        let command = super::super::options::command();
        let mut options: Vec<_> = command.get_arguments().map(|it| it.get_id().as_str().to_owned()).collect();
        let mut known: Vec<_> = AUDIENCES.iter().map(|it| it.0.to_owned()).collect();
        options.sort();
        known.sort();
        assert_eq!(known, options);
    }
}
