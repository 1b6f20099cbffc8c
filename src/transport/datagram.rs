//! UDP sockets, each of whose answers leaves from the address that was asked.
//!
//! A socket that is bound to all addresses (`0.0.0.0`, `[::]`) receives at each of them. For an answer the kernel would choose the
//! address by its route, which is often another one: of a machine with several addresses, of a container, of 127.0.0.2. The
//! client waits for an answer from where it has asked, and drops that one. So the kernel is asked for the address with each
//! datagram (IP_PKTINFO, ip(7); IPV6_RECVPKTINFO, RFC 3542), and given it back with the answer.
//!
//! Where a socket is bound to one address there is nothing to ask, and the plain calls are used: they save some 100 ns of an
//! echo's 1,900. The same goes for systems other than Linux, and without the feature `socket-options`: there the kernel chooses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token, event};

use super::options::ListenOptions;
use crate::reactor::{DatagramSocket, Route};

/// What carries datagrams beside streams.
pub enum Datagrams {
    /// A UDP socket.
    Udp(Udp),
    /// A socket of another kind; see [`custom`](super::custom).
    Custom(Box<dyn DatagramSocket + Send>),
}

/// A UDP socket; see the module's text.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    /// For a socket with several addresses.
    #[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
    several: Option<packet_info::Several>,
}

impl Datagrams {
    /// Binds a UDP socket.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Datagrams> {
        bind(address, options)?.answering_from_where_it_was_asked().map(Datagrams::Udp)
    }

    /// Takes over a UDP socket that is bound already.
    ///
    /// # Errors
    /// Those of fcntl(2) and setsockopt(2).
    pub fn adopt(socket: std::net::UdpSocket) -> io::Result<Datagrams> {
        socket.set_nonblocking(true)?;
        Udp::from(UdpSocket::from_std(socket)).answering_from_where_it_was_asked().map(Datagrams::Udp)
    }

    /// The socket, to be handed to another process; one of another kind has none.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Datagrams::Udp(udp) => Some(udp.socket.as_fd()),
            Datagrams::Custom(_) => None,
        }
    }
}

/// As it is: the kernel chooses where answers come from.
impl From<UdpSocket> for Datagrams {
    fn from(socket: UdpSocket) -> Datagrams {
        Datagrams::Udp(socket.into())
    }
}

impl DatagramSocket for Datagrams {
    fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Datagrams::Udp(udp) => udp.socket.local_addr(),
            Datagrams::Custom(custom) => custom.local_address(),
        }
    }

    #[inline]
    fn receive_datagram(&mut self, into: &mut [u8]) -> io::Result<(usize, Route)> {
        match self {
            Datagrams::Udp(udp) => udp.receive(into),
            Datagrams::Custom(custom) => custom.receive_datagram(into),
        }
    }

    #[inline]
    fn send_datagram(&mut self, bytes: &[u8], route: &Route) -> io::Result<usize> {
        match self {
            Datagrams::Udp(udp) => udp.send(bytes, route),
            Datagrams::Custom(custom) => custom.send_datagram(bytes, route),
        }
    }
}

impl Udp {
    #[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
    fn answering_from_where_it_was_asked(self) -> io::Result<Udp> {
        let several = packet_info::Several::of(&self.socket)?;
        Ok(Udp { several, ..self })
    }

    #[cfg(not(all(feature = "socket-options", any(target_os = "linux", target_os = "android"))))]
    fn answering_from_where_it_was_asked(self) -> io::Result<Udp> {
        Ok(self)
    }

    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> io::Result<(usize, Route)> {
        #[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
        if let Some(several) = &mut self.several {
            return several.receive(&self.socket, into);
        }
        self.socket.receive_datagram(into)
    }

    #[inline]
    fn send(&mut self, bytes: &[u8], route: &Route) -> io::Result<usize> {
        #[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
        if let (Some(several), Some(local)) = (&self.several, route.local) {
            return match several.send(&self.socket, bytes, route.peer, local) {
                // What came may have been sent to a broadcast address, which can't send.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.socket.send_datagram(bytes, route)
                }
                outcome => outcome,
            };
        }
        self.socket.send_datagram(bytes, route)
    }
}

impl From<UdpSocket> for Udp {
    fn from(socket: UdpSocket) -> Udp {
        Udp {
            socket,
            #[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
            several: None,
        }
    }
}

impl event::Source for Datagrams {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Datagrams::Udp(udp) => udp.socket.register(registry, token, interest),
            Datagrams::Custom(custom) => custom.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Datagrams::Udp(udp) => udp.socket.reregister(registry, token, interest),
            Datagrams::Custom(custom) => custom.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Datagrams::Udp(udp) => udp.socket.deregister(registry),
            Datagrams::Custom(custom) => custom.deregister(registry),
        }
    }
}

#[cfg(feature = "socket-options")]
fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Udp> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if address.is_ipv6() && options.only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()).into())
}

#[cfg(not(feature = "socket-options"))]
fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Udp> {
    super::options::check_without_socket_options(options)?;
    UdpSocket::bind(address).map(Udp::from)
}

#[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
mod packet_info {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
    };

    use crate::reactor::Route;

    /// What a socket with several addresses needs.
    #[derive(Debug)]
    pub(super) struct Several {
        is_ipv6: bool,
        /// Room for what the kernel adds to a datagram.
        control: Vec<u8>,
    }

    impl Several {
        /// `None` for a socket that is bound to one address.
        pub(super) fn of(socket: &UdpSocket) -> io::Result<Option<Several>> {
            let bound = socket.local_addr()?;
            if !bound.ip().is_unspecified() {
                return Ok(None);
            }
            // An IPv6 socket reports IPv4 datagrams in the same way, with mapped addresses (RFC 4291 section 2.5.5.2).
            match bound.is_ipv6() {
                true => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
                false => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            }
            let control = nix::cmsg_space!(in6_pktinfo);
            Ok(Some(Several { is_ipv6: bound.is_ipv6(), control }))
        }

        pub(super) fn receive(&mut self, socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, Route)> {
            let control = &mut self.control;
            control.resize(control.capacity(), 0); // cmsg_space gives capacity alone
            socket.try_io(|| {
                let mut parts = [IoSliceMut::new(into)];
                let received = recvmsg::<SockaddrStorage>(
                    socket.as_raw_fd(),
                    &mut parts,
                    Some(control),
                    MsgFlags::empty(),
                )?;
                let peer = received.address.as_ref().and_then(std_address);
                let peer = peer.ok_or(io::ErrorKind::InvalidData)?; // a UDP sender has one
                let local = received.cmsgs()?.find_map(|message| match message {
                    // Not ipi_addr: that is what the header says, and may be a broadcast address.
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        Some(IpAddr::V4(u32::from_be(info.ipi_spec_dst.s_addr).into()))
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        Some(IpAddr::V6(info.ipi6_addr.s6_addr.into()))
                    }
                    _ => None,
                });
                let local = local.filter(|local| !local.to_canonical().is_multicast());
                Ok((received.bytes, Route { peer, local }))
            })
        }

        /// nix allocates the room for the control message, some 40 bytes, each time: the one allocation for a message on the
        /// whole way. quinn-udp has none, but turns on GRO and forbids fragments, so that long datagrams would be lost.
        pub(super) fn send(
            &self,
            socket: &UdpSocket,
            bytes: &[u8],
            peer: SocketAddr,
            local: IpAddr,
        ) -> io::Result<usize> {
            let to = SockaddrStorage::from(peer);
            let (v4, v6);
            // Interface 0: the one that the route says. A link-local peer brings its own (its scope).
            let message = match local {
                IpAddr::V4(local) if !self.is_ipv6 => {
                    v4 = v4_info(local);
                    ControlMessage::Ipv4PacketInfo(&v4)
                }
                local => {
                    v6 = v6_info(match local {
                        IpAddr::V4(local) => local.to_ipv6_mapped(),
                        IpAddr::V6(local) => local,
                    });
                    ControlMessage::Ipv6PacketInfo(&v6)
                }
            };
            socket.try_io(|| {
                let parts = [IoSlice::new(bytes)];
                Ok(sendmsg(socket.as_raw_fd(), &parts, &[message], MsgFlags::empty(), Some(&to))?)
            })
        }
    }

    fn v4_info(local: Ipv4Addr) -> in_pktinfo {
        in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: local.to_bits().to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        }
    }

    fn v6_info(local: Ipv6Addr) -> in6_pktinfo {
        in6_pktinfo { ipi6_addr: in6_addr { s6_addr: local.octets() }, ipi6_ifindex: 0 }
    }

    fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = || address.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
        let v6 = || address.as_sockaddr_in6().map(|it| SocketAddr::V6((*it).into()));
        v4().or_else(v6)
    }
}
