//! Whose is the socket that listens there? The server's process, found by its address.
//!
//! From the address to the kernel's list of sockets, from there to an inode, and from that to the
//! processes that hold a descriptor of it. It finds who *holds* the listener: behind a proxy that is the
//! proxy, and a process of another user is not seen at all. That is why its answer is shown with its name,
//! and why it is a guess that `--server-pid` overrules.
//!
//! Invariant: an address that is not this machine's finds nobody, whatever listens here on the same port.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::procfs::{self, Socket};
use crate::endpoint::Endpoint;

/// Descriptors looked at in one process. They come in ascending order and listeners are made early; a
/// process with a million connections is not read to the end.
const DESCRIPTORS_MAX: usize = 4096;
/// How many processes may hold the listener: one, or as many workers.
const HOLDERS_MAX: usize = 64;
/// As the kernel numbers TCP's states.
const LISTEN: u8 = 0x0A;

/// The processes that hold a socket on which `target` would be heard, in ascending order. We are among
/// them only when nobody else is: a listener that we merely inherited is not ours.
pub(super) fn holders(target: &Endpoint) -> Vec<u32> {
    let inodes = match target {
        Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) => {
            let is_listener = |it: &Socket| it.state == LISTEN;
            heard_at(*address, &[&table("tcp"), &table("tcp6")], is_listener)
        }
        Endpoint::Udp(address) => {
            // A socket with a peer of its own, ours for one, hears nobody else.
            let is_unconnected = |it: &Socket| it.remote.ip().is_unspecified() && it.remote.port() == 0;
            heard_at(*address, &[&table("udp"), &table("udp6")], is_unconnected)
        }
        Endpoint::Unix(path, _) => return unix_holders(path),
    };
    holders_of(&inodes).into_iter().map(|(pid, _)| pid).collect()
}

/// What lies in the kernel between us and the server, on all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queued {
    /// Bytes that either side has sent and that were not confirmed: they are on the path, or wait for it.
    pub(super) on_the_path: u64,
    /// Bytes that have arrived and that were not read. A server of another machine shows none.
    pub(super) unread: u64,
    /// The server's ends of connections, if it is on this machine; those of them with replies on the path; and their bytes.
    pub(super) servers: u32,
    pub(super) servers_replying: u32,
    pub(super) replies: u64,
}

/// Returns what lies between us and this address now.
pub(super) fn queued(target: SocketAddr) -> Queued {
    let ours_or_theirs = |it: &Socket| it.state != LISTEN && (it.remote == target || it.local == target);
    let tables = ["tcp", "tcp6"].map(table);
    let sockets = tables.iter().flat_map(|text| procfs::sockets(text)).filter(ours_or_theirs);
    sockets.fold(Queued::default(), |sum, it| {
        let is_servers = it.local == target;
        Queued {
            on_the_path: sum.on_the_path + it.tx_bytes,
            unread: sum.unread + it.rx_bytes,
            servers: sum.servers + u32::from(is_servers),
            servers_replying: sum.servers_replying + u32::from(is_servers && it.tx_bytes > 0),
            replies: sum.replies + if is_servers { it.tx_bytes } else { 0 },
        }
    })
}

fn table(name: &str) -> String {
    procfs::read_long(&format!("/proc/net/{name}")).unwrap_or_default()
}

/// The inodes of the sockets that hear what is sent to `target`: those that are bound to it, or else those
/// that are bound to all addresses. Several, with SO_REUSEPORT.
fn heard_at(target: SocketAddr, tables: &[&str], is_server: impl Fn(&Socket) -> bool) -> Vec<u64> {
    let sockets: Vec<Socket> =
        tables.iter().flat_map(|text| procfs::sockets(text)).filter(is_server).collect();
    // Who connects to 0.0.0.0 or [::] reaches this machine, by its loopback address.
    let ip = match target.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    let bound_to = |wanted: &dyn Fn(IpAddr) -> bool| -> Vec<u64> {
        let at = |it: &&Socket| it.local.port() == target.port() && wanted(it.local.ip().to_canonical());
        sockets.iter().filter(at).map(|it| it.inode).collect()
    };
    let exact = bound_to(&|bound| bound == ip);
    if !exact.is_empty() || !is_local(ip) {
        return exact;
    }
    // [::] takes IPv4 as well, unless it was told not to; 0.0.0.0 is the better match.
    let family = bound_to(&|bound| bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4());
    if !family.is_empty() || ip.is_ipv6() {
        return family;
    }
    bound_to(&|bound| bound.is_unspecified())
}

/// Whether an address is one of this machine's: only those can be bound. Nothing is sent.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The kernel lists the path as the server wrote it. Another spelling, or one that is relative to the
/// server's folder, is the same socket if it leads to the same file.
fn unix_holders(path: &Path) -> Vec<u32> {
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        // An abstract name has one spelling, and the kernel writes a NUL byte as @.
        let name = String::from_utf8_lossy(name).replace('\0', "@");
        let text = table("unix");
        let named = |(inode, bound): (u64, &str)| (bound.strip_prefix('@') == Some(&name)).then_some(inode);
        let inodes: Vec<u64> = procfs::unix_listeners(&text).filter_map(named).collect();
        return holders_of(&inodes).into_iter().map(|(pid, _)| pid).collect();
    }
    let Some(target) = identity(path) else { return Vec::new() };
    let name = path.canonicalize().ok().and_then(|it| Some(it.file_name()?.to_string_lossy().into_owned()));
    let text = table("unix");
    let named = |bound: &str| {
        Path::new(bound).file_name().map(|it| it.to_string_lossy()) == name.as_deref().map(Into::into)
    };
    let listeners: Vec<(u64, &str)> =
        procfs::unix_listeners(&text).filter(|(_, bound)| named(bound)).collect();
    let inodes: Vec<u64> = listeners.iter().map(|(inode, _)| *inode).collect();
    let is_it = |(pid, inode): &(u32, u64)| {
        let bound = listeners.iter().find(|(it, _)| it == inode).map(|(_, bound)| *bound).unwrap_or_default();
        // `join` takes an absolute path as it is.
        identity(&Path::new(&format!("/proc/{pid}/cwd")).join(bound)) == Some(target)
    };
    holders_of(&inodes).into_iter().filter(is_it).map(|(pid, _)| pid).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|it| (it.dev(), it.ino()))
}

/// The processes that hold one of these sockets, and which.
fn holders_of(inodes: &[u64]) -> Vec<(u32, u64)> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut pids: Vec<u32> = procfs::numbers_in("/proc").collect();
    pids.sort_unstable();
    let holding = pids.into_iter().filter_map(|pid| Some((pid, held(pid, inodes)?)));
    let mut holders: Vec<(u32, u64)> = holding.take(HOLDERS_MAX).collect();
    // systemd keeps the listeners of the services that it starts on demand. It is the server only as long
    // as there is no other; so are we.
    let us = std::process::id();
    for is_keeper in [&|pid: u32| pid == us, &is_systemd as &dyn Fn(u32) -> bool] {
        if holders.iter().any(|(pid, _)| !is_keeper(*pid)) {
            holders.retain(|(pid, _)| !is_keeper(*pid));
        }
    }
    holders
}

/// Whether a process only keeps listeners for others.
pub(super) fn is_systemd(pid: u32) -> bool {
    procfs::read_small(&format!("/proc/{pid}/comm")).is_some_and(|name| name == "systemd\n")
}

/// Which of these sockets a process holds, if it holds one and may be looked at.
fn held(pid: u32, inodes: &[u64]) -> Option<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    descriptors.take(DESCRIPTORS_MAX).flatten().find_map(|descriptor| {
        let link = fs::read_link(descriptor.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        inodes.contains(&inode).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// A table of sockets as /proc/net/tcp has it; each `(local, state, inode)`.
    fn rows(sockets: &[(&str, u8, u64)]) -> String {
        let row = |(local, state, inode): &(&str, u8, u64)| {
            let local: SocketAddr = local.parse().unwrap();
            let hex = |bytes: &[u8]| -> String {
                bytes
                    .chunks_exact(4)
                    .map(|it| format!("{:08X}", u32::from_ne_bytes(it.try_into().unwrap())))
                    .collect()
            };
            let ip = match local.ip() {
                IpAddr::V4(ip) => hex(&ip.octets()),
                IpAddr::V6(ip) => hex(&ip.octets()),
            };
            let port = local.port();
            format!(
                "   0: {ip}:{port:04X} 00000000:0000 {state:02X} 0:0 00:0 0 0 0 {inode} 1 0 100 0 0 10 0\n"
            )
        };
        format!("  sl  local_address ...\n{}", sockets.iter().map(row).collect::<String>())
    }

    fn found(target: &str, sockets: &[(&str, u8, u64)]) -> Vec<u64> {
        heard_at(target.parse().unwrap(), &[&rows(sockets)], |it| it.state == LISTEN)
    }

    /// Another test that is starting a process holds all that we hold, until that has begun.
    fn assert_finds(target: &Endpoint, pids: &[u32]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while holders(target) != pids {
            assert!(Instant::now() < deadline, "{target}: {:?}, not {pids:?}", holders(target));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_exact_address_goes_before_all_addresses() {
        let both = [("0.0.0.0:80", LISTEN, 1), ("127.0.0.1:80", LISTEN, 2), ("[::]:80", LISTEN, 3)];
        assert_eq!(found("127.0.0.1:80", &both), [2]);
        assert_eq!(found("127.0.0.2:80", &both), [1]);
        assert_eq!(found("[::1]:80", &both), [3]);
        assert!(found("127.0.0.1:81", &both).is_empty());
        assert_eq!(found("0.0.0.0:80", &both), [2]);
    }

    #[test]
    fn a_dual_stack_listener_takes_ipv4_too() {
        assert_eq!(found("127.0.0.1:80", &[("[::]:80", LISTEN, 3)]), [3]);
        assert_eq!(found("127.0.0.1:80", &[("[::ffff:127.0.0.1]:80", LISTEN, 4)]), [4]);
        assert!(found("[::1]:80", &[("0.0.0.0:80", LISTEN, 1)]).is_empty());
    }

    #[test]
    fn several_share_a_port() {
        let three = [("127.0.0.1:80", LISTEN, 1), ("127.0.0.1:80", LISTEN, 2), ("127.0.0.1:80", 1, 3)];
        assert_eq!(found("127.0.0.1:80", &three), [1, 2]);
    }

    #[test]
    fn another_machines_address_is_not_ours_though_the_port_is() {
        // 192.0.2.0/24 is set aside for documentation.
        assert!(found("192.0.2.77:80", &[("0.0.0.0:80", LISTEN, 1), ("[::]:80", LISTEN, 3)]).is_empty());
    }

    #[test]
    fn our_own_listeners_are_found_with_us_as_their_holder() {
        let us = vec![std::process::id()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
        assert_finds(&tcp, &us);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = format!("udp://{}", socket.local_addr().unwrap()).parse().unwrap();
        assert_finds(&udp, &us);
        drop((listener, socket));
        assert_finds(&tcp, &[]);
        assert_finds(&udp, &[]);
    }

    /// As its standard input, which is as good a descriptor as any.
    #[test]
    fn another_process_goes_before_us_who_hold_it_too() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = format!("tcp://127.0.0.1:{port}").parse().unwrap();
        let ours: OwnedFd = listener.try_clone().unwrap().into();
        let mut child = Command::new("sleep").arg("60").stdin(ours).spawn().unwrap();
        assert_finds(&target, &[child.id()]);
        drop(listener);
        assert_finds(&target, &[child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_finds(&target, &[]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_listener_is_found_by_its_name() {
        use std::os::linux::net::SocketAddrExt;

        let us = std::process::id();
        let url = |name: &str| format!("unix:@{name}").parse::<Endpoint>().unwrap();
        let name = format!("switchboard listening {us}");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        assert_finds(&url(&name), &[us]);
        assert_finds(&url(&format!("{name} not")), &[]);
        drop(listener);
        assert_finds(&url(&name), &[]);
    }

    #[test]
    fn a_unix_listener_is_found_by_any_spelling_of_its_path() {
        let us = vec![std::process::id()];
        let folder = std::env::temp_dir().join(format!("switchboard listening {}", us[0]));
        fs::create_dir_all(folder.join("b")).unwrap();
        let path = folder.join("a b.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::os::unix::fs::symlink(&path, folder.join("link.sock")).unwrap();
        let at = |path: &Path| Endpoint::Unix(path.into(), Default::default());
        assert_finds(&at(&path), &us);
        assert_finds(&at(&folder.join("b/../a b.sock")), &us);
        assert_finds(&at(&folder.join("link.sock")), &us);
        assert_finds(&at(&folder.join("c.sock")), &[]);
        drop(listener);
        assert_finds(&at(&path), &[]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
