//! Which of a name's addresses is called: the first that answers.
//!
//! A name often stands for an IPv6 and an IPv4 address, and a server mostly listens at one of them. So the addresses are tried
//! as a browser tries them (RFC 8305, "happy eyeballs"): the families in turn, each attempt begun when the one before has
//! failed, or has been silent for a moment. A run has one target, so this is done once, before it.
//!
//! Invariant: a name with one address is not called beforehand.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;

/// How long an attempt is waited for before the next one begins beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long all of them may take.
const REACH_WITHIN: Duration = Duration::from_secs(10);

/// The one of these endpoints that answers first; `None` where none does. Of one alone, that one, whether it answers or not.
pub fn reach(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    let [first, _, ..] = endpoints else { return endpoints.first() };
    let addresses = in_turn(endpoints.iter().filter_map(Endpoint::address));
    let reached = match first {
        Endpoint::Udp(_) => addresses.iter().copied().find(|address| may_hear(*address)),
        _ => connected(&addresses),
    };
    endpoints.iter().find(|endpoint| reached.is_some() && endpoint.address() == reached)
}

/// The families in turn, that of the first address first (RFC 8305, section 4); within each, the order stays.
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.collect();
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.is_ipv6() == first_is_v6);
    let mut turns = Vec::new();
    one.reverse();
    other.reverse();
    while !one.is_empty() || !other.is_empty() {
        turns.extend(one.pop());
        turns.extend(other.pop());
    }
    turns
}

/// The address to which a connection came about first.
fn connected(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let deadline = Instant::now() + REACH_WITHIN;
    let (told, outcomes) = channel();
    let (mut next, mut pending) = (addresses.iter().copied(), 0);
    loop {
        if let Some(address) = next.next() {
            let told = told.clone();
            pending += 1;
            thread::spawn(move || {
                let outcome = TcpStream::connect_timeout(&address, REACH_WITHIN);
                let _ = told.send(outcome.ok().map(|_| address)); // another one was faster
            });
        }
        // One more attempt when this one has failed or been silent; the last ones are waited for.
        let patience = match next.len() {
            0 => deadline.saturating_duration_since(Instant::now()),
            _ => ATTEMPT_DELAY,
        };
        match outcomes.recv_timeout(patience) {
            Ok(Some(address)) => return Some(address),
            Ok(None) => pending -= 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if next.len() == 0 && (pending == 0 || Instant::now() >= deadline) {
            return None;
        }
    }
}

/// A datagram is answered or not, so it can't be known who listens there; but there is a route, and on this machine a
/// socket has the port.
fn may_hear(address: SocketAddr) -> bool {
    let any = SocketAddr::new(
        match address.is_ipv6() {
            true => [0u16; 8].into(),
            false => [0u8; 4].into(),
        },
        0,
    );
    let has_route = UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok();
    has_route && UdpSocket::bind(address).is_err()
}

/// Returns whether the machine at this address reports that no socket listens at this port (ICMP port unreachable, RFC 1122
/// section 3.2.2.1). Sends one empty datagram. Most firewalls drop such reports: then it returns `false`.
pub fn refuses_datagrams(address: SocketAddr) -> bool {
    /// An answer takes no longer on one machine, nor over most networks.
    const WITHIN: Duration = Duration::from_millis(300);
    let asked = || {
        let any: SocketAddr = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.parse().ok()?;
        let socket = UdpSocket::bind(any).ok()?;
        socket.set_read_timeout(Some(WITHIN)).ok()?;
        socket.connect(address).ok()?; // only a connected socket is told
        socket.send(&[]).ok()?;
        socket.recv(&mut [0]).err()
    };
    asked().is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_where_nobody_listens_refuses_datagrams() {
        let socket = UdpSocket::bind("127.9.8.7:0").unwrap(); // where no other test listens
        let address = socket.local_addr().unwrap();
        assert!(!refuses_datagrams(address));
        drop(socket);
        assert!(refuses_datagrams(address));
    }

    #[test]
    fn the_families_come_in_turn() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let expected = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]);
        assert_eq!(in_turn(given.into_iter()), expected);
        let given = addresses(&["10.0.0.1:1", "10.0.0.2:1"]);
        assert_eq!(in_turn(given.iter().copied()), given);
    }

    #[test]
    fn the_address_that_answers_is_called() {
        let listener = TcpListener::bind("127.0.0.3:0").unwrap();
        let there = listener.local_addr().unwrap();
        let tcp = |address: &str| {
            let mut address: SocketAddr = address.parse().unwrap();
            address.set_port(there.port());
            Endpoint::Tcp(address, Default::default())
        };
        // Nobody listens at the first two: refused at once.
        let all = [tcp("127.0.0.1:0"), tcp("127.0.0.2:0"), tcp("127.0.0.3:0")];
        assert_eq!(reach(&all), Some(&all[2]));
        assert_eq!(reach(&all[..2]), None);
        assert_eq!(reach(&all[..1]), Some(&all[0]), "there is no choice");
    }

    /// A listener whose backlog is full answers no more connects: they are silent, as a host that is away.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_is_silent_is_not_waited_for() {
        use socket2::{Domain, Socket, Type};

        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&silent, Duration::from_millis(100));
        let _waiting: Vec<TcpStream> = std::iter::repeat_with(connect).map_while(Result::ok).collect();

        let there = SocketAddr::new([127, 0, 0, 3].into(), silent.port());
        let _listener = TcpListener::bind(there).unwrap();
        let all = [silent, there].map(|address| Endpoint::Tcp(address, Default::default()));
        let began = Instant::now();
        assert_eq!(reach(&all), Some(&all[1]));
        assert!(began.elapsed() < REACH_WITHIN, "the first one's time is not used up");
    }

    #[test]
    fn over_udp_the_one_with_a_socket_is_called() {
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        let there = socket.local_addr().unwrap();
        let other = SocketAddr::new([127, 0, 0, 1].into(), there.port());
        let all = [other, there].map(Endpoint::Udp);
        assert_eq!(reach(&all), Some(&all[1]));
    }
}
