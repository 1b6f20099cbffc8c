//! TCP and Unix stream sockets, TLS on them, and streams of other kinds.
//!
//! One enum, matched at each read and write: a predictable branch, where a trait object would be an
//! indirect call and a type parameter a second copy of the loop.
//!
//! Invariant: every socket in here is non-blocking, and closed on exec (mio sees to both). Of a [`CustomStream`] its maker
//! has to see to it.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr as UnixAddress;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token, event};

use super::address::Address;
use super::custom::{CustomListener, CustomStream};
use super::options::ListenOptions;
#[cfg(not(feature = "socket-options"))]
use super::options::{check_without_socket_options, without_socket_options};
use super::proxied::Header;
use super::tls::{ClientTls, Secured, ServerTls, Tls};
use crate::protocol::proxy::Introduced;
use crate::reactor::{Opening, Transport};

/// A stream socket.
pub enum Stream {
    /// TCP; an outgoing one is not `established` until its connect has come through.
    Tcp {
        /// The socket.
        socket: TcpStream,
        /// Whether bytes can flow.
        established: bool,
    },
    /// A Unix stream connection.
    Unix(UnixStream),
    /// TLS over one of the others. In a box: it is thirty times as large.
    Tls(Box<Tls<Stream>>),
    /// A stream of another kind.
    Custom(Box<dyn CustomStream>),
    /// One of these that a proxy has opened. Before anything else, a PROXY header must come.
    Proxied(Box<Proxied>),
}

/// What accepts streams.
pub enum Listener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A listener whose connections speak TLS.
    Tls(Box<Listener>, ServerTls),
    /// A Unix listener, and the file that is its name; `None` where that is somebody else's.
    Unix(UnixListener, Option<SocketFile>),
    /// A listener of another kind.
    Custom(Box<dyn CustomListener>),
}

impl Stream {
    /// Begins a TCP connection; [`Transport::establish`] says what became of it.
    ///
    /// # Errors
    /// Those of connect(2) that are known at once.
    pub fn connect(to: SocketAddr) -> io::Result<Stream> {
        Ok(Stream::Tcp { socket: TcpStream::connect(to)?, established: false })
    }

    /// As [`Stream::connect`], from this address of ours, where one is given.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and connect(2) that are known at once: `AddrNotAvailable` where the
    /// address is not ours, or has no free port left.
    #[cfg(feature = "socket-options")]
    pub fn connect_from(to: SocketAddr, from: Option<std::net::IpAddr>) -> io::Result<Stream> {
        use socket2::{Domain, Socket, Type};
        /// Linux; macOS and the BSDs.
        const EINPROGRESS: [i32; 2] = [115, 36];

        let Some(from) = from else { return Stream::connect(to) };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?; // a port in TIME_WAIT will do
        match socket.bind(&SocketAddr::new(from, 0).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            outcome => outcome?,
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error().is_some_and(|code| EINPROGRESS.contains(&code)) => {}
            Err(error) => return Err(error),
        }
        Ok(Stream::Tcp { socket: TcpStream::from_std(socket.into()), established: false })
    }

    /// Connects to a Unix listener. That happens at once, or not at all. A path that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    /// Those of connect(2): nobody listens, the backlog is full, no permission.
    pub fn connect_unix(path: &Path) -> io::Result<Stream> {
        UnixStream::connect_addr(&unix_address(path)?).map(Stream::Unix)
    }

    /// The other side's address, if it is still there.
    pub fn peer_address(&self) -> Option<Address> {
        match self {
            Stream::Tcp { socket, .. } => socket.peer_addr().ok().map(Address::Ip),
            Stream::Tls(tls) => tls.below().peer_address(),
            Stream::Unix(_) => Some(Address::Unix),
            Stream::Custom(custom) => custom.peer_address(),
            Stream::Proxied(proxied) => proxied.then.as_ref()?.peer_address(),
        }
    }

    /// Whether our end has a loopback address: then the other end is on this machine.
    pub fn is_at_loopback(&self) -> bool {
        match self {
            Stream::Tcp { socket, .. } => {
                socket.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            Stream::Tls(tls) => tls.below().is_at_loopback(),
            Stream::Unix(_) | Stream::Custom(_) => false,
            Stream::Proxied(proxied) => proxied.then.as_ref().is_some_and(|then| then.is_at_loopback()),
        }
    }

    /// Reads what the next `read` will return, below TLS.
    pub(super) fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp { socket, .. } => socket.peek(into),
            Stream::Unix(socket) => peek_unix(socket, into),
            Stream::Custom(custom) => custom.peek(into),
            Stream::Tls(tls) => tls.below().peek(into),
            Stream::Proxied(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What is known of the other end of a TLS connection.
    pub fn secured(&self) -> Option<Secured> {
        match self {
            Stream::Tls(tls) => Some(tls.secured()),
            Stream::Tcp { .. } | Stream::Unix(_) | Stream::Custom(_) | Stream::Proxied(_) => None,
        }
    }

    /// Makes this accepted connection begin with a PROXY header.
    pub fn expect_header(&mut self) {
        let then = mem::replace(self, Stream::Proxied(Box::default()));
        if let Stream::Proxied(proxied) = self {
            proxied.then = Some(then);
        }
    }

    /// Returns what the PROXY header of this connection said, once, after the step of `establish` in which it has come.
    pub fn take_introduced(&mut self) -> Option<Introduced> {
        let Stream::Proxied(proxied) = self else { return None };
        let introduced = proxied.introduced?;
        *self = proxied.then.take()?;
        Some(introduced)
    }

    /// Has this new connection of ours begin with a TLS handshake.
    ///
    /// # Errors
    /// Where the session can't be made.
    pub fn secure(self, tls: &ClientTls) -> io::Result<Stream> {
        match self {
            Stream::Tcp { .. } | Stream::Custom(_) => {
                Tls::connecting(self, tls).map(|tls| Stream::Tls(Box::new(tls)))
            }
            other => Ok(other),
        }
    }
}

impl Transport for Stream {
    type Listener = Listener;
    type Datagrams = super::datagram::Datagrams;
    type Address = Address;

    #[inline]
    fn accept(listener: &mut Listener) -> io::Result<(Stream, Address)> {
        match listener {
            Listener::Tcp(listener) => {
                let (socket, address) = listener.accept()?;
                // Linux gives an accepted socket its listener's options: one syscall less for each
                // connection. If the call fails, the peer has reset already, and the first read says so.
                if !OPTIONS_ARE_INHERITED {
                    let _ = socket.set_nodelay(true);
                }
                Ok((Stream::Tcp { socket, established: true }, Address::Ip(address)))
            }
            Listener::Tls(listener, tls) => {
                let (below, address) = Stream::accept(listener)?;
                Ok((Stream::Tls(Box::new(Tls::accepted(below, tls)?)), address))
            }
            Listener::Unix(listener, _) => {
                listener.accept().map(|(unix, _)| (Stream::Unix(unix), Address::Unix))
            }
            Listener::Custom(listener) => {
                listener.accept().map(|(custom, address)| (Stream::Custom(custom), address))
            }
        }
    }

    /// connect(2) on a non-blocking socket: when it turns writable, SO_ERROR tells how it went. mio adds
    /// that a wakeup may be spurious, so the peer's address must be known as well.
    fn establish(&mut self) -> io::Result<Opening> {
        match self {
            Stream::Tcp { socket, established: established @ false } => {
                connected(socket)?;
                *established = true;
            }
            Stream::Tls(tls) => {
                let outcome = tls.establish();
                if let Err(error) = &outcome
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    let peer = tls.below().peer_address().map_or("a peer".into(), |it| it.to_string());
                    log::debug!("the handshake with {peer} failed: {error}");
                }
                outcome?;
            }
            Stream::Tcp { .. } | Stream::Unix(_) | Stream::Custom(_) => {}
            Stream::Proxied(proxied) if proxied.introduced.is_none() => {
                proxied.read_header()?;
                return Ok(Opening::Step);
            }
            Stream::Proxied(_) => {
                self.take_introduced();
                return self.establish(); // nobody wanted to know what the header said
            }
        }
        Ok(Opening::Done)
    }

    fn has_handshake(&self) -> bool {
        matches!(self, Stream::Tls(_) | Stream::Proxied(_))
    }

    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tls(tls) => tls.discard(scratch),
            other => other.read(scratch),
        }
    }

    fn passed_on(&self) -> u64 {
        match self {
            Stream::Tls(tls) => tls.passed_on(),
            Stream::Custom(custom) => custom.passed_on(),
            _ => 0, // a socket keeps nothing back
        }
    }

    fn finish(&mut self, last: bool) -> io::Result<()> {
        match self {
            Stream::Tls(tls) => tls.finish(last),
            _ if last => Ok(()),
            Stream::Proxied(proxied) => match &mut proxied.then {
                Some(then) => then.finish(last),
                None => Ok(()),
            },
            Stream::Tcp { socket, .. } => socket.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
            Stream::Custom(custom) => custom.finish(),
        }
    }

    /// For TCP on Linux only. A read from a Unix socket also stops short behind a message that carried
    /// descriptors, with more bytes waiting; and other systems' manuals promise nothing.
    #[inline]
    fn short_read_means_empty(&self) -> bool {
        match self {
            Stream::Tcp { .. } => cfg!(any(target_os = "linux", target_os = "android")),
            Stream::Tls(tls) => tls.is_emptied(),
            Stream::Custom(custom) => custom.short_read_means_empty(),
            Stream::Unix(_) | Stream::Proxied(_) => false,
        }
    }
}

/// A connection that a proxy has opened, up to the end of the PROXY header.
#[derive(Default)]
pub struct Proxied {
    /// The connection itself. `None` only while it is being put in or taken out.
    then: Option<Stream>,
    header: Header,
    /// What the header says, when it has come.
    introduced: Option<Introduced>,
}

impl Proxied {
    /// Reads the header as far as it has come; see [`Header::read`].
    fn read_header(&mut self) -> io::Result<()> {
        let Some(then) = &mut self.then else { return Err(io::ErrorKind::NotConnected.into()) };
        let then = RefCell::new(match then {
            Stream::Tls(tls) => tls.below_mut(), // the header comes before the handshake
            plain => plain,
        });
        let introduced =
            self.header.read(|into| then.borrow().peek(into), |into| then.borrow_mut().read(into))?;
        self.introduced = Some(introduced);
        Ok(())
    }
}

/// The standard library has a peek for TCP alone.
#[cfg(feature = "socket-options")]
fn peek_unix(socket: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, recv};
    Ok(recv(socket.as_raw_fd(), into, MsgFlags::MSG_PEEK)?)
}

#[cfg(not(feature = "socket-options"))]
fn peek_unix(_socket: &UnixStream, _into: &mut [u8]) -> io::Result<usize> {
    let message = "a PROXY header over a Unix socket needs the feature `socket-options`";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// How far connect(2) is: `WouldBlock` until it has come through.
fn connected(socket: &mut TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => socket.set_nodelay(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

const OPTIONS_ARE_INHERITED: bool =
    cfg!(all(feature = "socket-options", any(target_os = "linux", target_os = "android")));

/// Apart, so that the way of plain TCP is one comparison.
impl Stream {
    #[inline(never)]
    fn read_otherwise(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp { socket, .. } => socket.read(into),
            Stream::Tls(tls) => tls.read(into),
            Stream::Unix(unix) => unix.read(into),
            Stream::Custom(custom) => custom.read(into),
            Stream::Proxied(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline(never)]
    fn write_otherwise(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp { socket, .. } => socket.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
            Stream::Unix(unix) => unix.write(bytes),
            Stream::Custom(custom) => custom.write(bytes),
            Stream::Proxied(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Stream {
    #[inline(always)]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp { socket, .. } => socket.read(into),
            other => other.read_otherwise(into),
        }
    }
}

impl Write for Stream {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp { socket, .. } => socket.write(bytes),
            other => other.write_otherwise(bytes),
        }
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(tls) => tls.flush(),
            Stream::Custom(custom) => custom.flush(),
            _ => Ok(()), // a socket keeps nothing back
        }
    }
}

/// The poll watches the socket inside.
macro_rules! watch_the_socket_inside {
    ($kind:ident: $($variant:pat => $socket:expr),*) => {
        impl event::Source for $kind {
            fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
                match self { $($variant => $socket.register(registry, token, interest)),* }
            }
            fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
                match self { $($variant => $socket.reregister(registry, token, interest)),* }
            }
            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                match self { $($variant => $socket.deregister(registry)),* }
            }
        }
    };
}
watch_the_socket_inside!(
    Stream: Stream::Tcp { socket, .. } => socket, Stream::Unix(socket) => socket,
    Stream::Tls(tls) => tls.below_mut(), Stream::Custom(custom) => custom,
    Stream::Proxied(proxied) => proxied.then.as_mut().ok_or(io::ErrorKind::NotConnected)?
);
watch_the_socket_inside!(
    Listener: Listener::Tcp(socket) => socket, Listener::Unix(socket, _) => socket,
    Listener::Tls(listener, _) => listener, Listener::Custom(custom) => custom
);

impl Listener {
    /// Binds and listens. SO_REUSEADDR is set: a server may come back while connections of its
    /// predecessor are still in TIME_WAIT. TCP_NODELAY is set for all that it accepts: replies are
    /// written whole, and Nagle's algorithm would hold back the last part of each.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
        bind_tcp(address, options).map(Listener::Tcp)
    }

    /// Binds and listens on a Unix socket. A socket file that nobody listens on any more is replaced;
    /// the file is removed when the listener is dropped. A path that begins with a NUL byte is an abstract name: it has no
    /// file and no permissions, and ends with its last socket.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2); `AddrInUse` where somebody listens there, `AlreadyExists`
    /// where the path is a file of another kind.
    pub fn unix(path: &Path, options: &ListenOptions) -> io::Result<Listener> {
        check_unix_path(path)?;
        if is_abstract(path) {
            let options = ListenOptions { unix_mode: None, ..options.clone() };
            return Ok(Listener::Unix(bind_unix(path, &options)?, None));
        }
        make_way(path)?;
        let listener = bind_unix(path, options)?;
        Ok(Listener::Unix(listener, Some(SocketFile::of(path)?)))
    }

    /// Takes over a TCP socket that listens already, with what [`Listener::tcp`] would have told it.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    #[cfg(feature = "socket-options")]
    pub fn adopt_tcp(listener: std::net::TcpListener, options: &ListenOptions) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        set_options(socket2::SockRef::from(&listener), options)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)))
    }

    /// Takes over a Unix socket that listens already, and its file, if that is ours from now on.
    ///
    /// # Errors
    /// Those of fcntl(2).
    #[cfg(feature = "socket-options")]
    pub fn adopt_unix(
        listener: std::os::unix::net::UnixListener,
        file: Option<SocketFile>,
    ) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener::Unix(UnixListener::from_std(listener), file))
    }

    /// Has its connections speak TLS from now on, or another one; those that are there go on as they are.
    pub fn secure(self, tls: ServerTls) -> Listener {
        match self {
            Listener::Tls(listener, _) => Listener::Tls(listener, tls),
            Listener::Tcp(_) | Listener::Custom(_) => Listener::Tls(Box::new(self), tls),
            Listener::Unix(..) => self,
        }
    }

    /// Has its connections speak TLS as this says, where it speaks TLS at all.
    pub fn set_tls(&mut self, tls: ServerTls) {
        if let Listener::Tls(_, now) = self {
            *now = tls;
        }
    }

    /// Has its connections begin without a handshake, as they did before it was secured.
    pub fn without_tls(self) -> Listener {
        match self {
            Listener::Tls(listener, _) => *listener,
            plain => plain,
        }
    }

    /// Its file is somebody else's from now on: it stays when the listener goes.
    pub fn leave_file(&mut self) {
        if let Listener::Unix(_, file) = self
            && let Some(file) = file.take()
        {
            file.leave();
        }
    }

    /// Its file, which was lent to it, is its own from now on.
    pub fn own_file(&mut self) {
        if let Listener::Unix(_, Some(file)) = self {
            file.is_lent = false;
        }
    }

    /// Whether its file is gone, or another one is there: no client finds it any more.
    pub fn has_lost_file(&self) -> bool {
        match self {
            Listener::Unix(_, Some(file)) => !file.is_there(),
            _ => false,
        }
    }

    /// The TCP address that it is bound to, if it is of that kind and the system returns it.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.bound_address().ok().flatten()
    }

    /// The TCP address that it is bound to; `None` for listeners of other kinds.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn bound_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Some),
            Listener::Tls(listener, _) => listener.bound_address(),
            Listener::Unix(..) | Listener::Custom(_) => Ok(None),
        }
    }

    /// The socket, to be handed to another process; a listener of another kind has none.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Listener::Tcp(socket) => Some(socket.as_fd()),
            Listener::Unix(socket, _) => Some(socket.as_fd()),
            Listener::Tls(listener, _) => listener.socket(),
            Listener::Custom(_) => None,
        }
    }
}

/// Bytes of one connection that the kernel holds and has not sent yet (TCP_NOTSENT_LOWAT, tcp(7)); it takes up to one
/// segment more, of at most 64 KiB. Without this limit the send buffer of a connection whose peer does not read grows to
/// megabytes (`tcp_wmem`), and no limit of ours counts them: 1,500 downloads that nobody read held 1.2 GB. What has been sent
/// and waits for its acknowledgement is bounded by the peer's window, as ever, so a fast path over a long way is not slowed
/// down: the kernel asks for more when half of this is left to be sent.
///
/// Twice the outbox's high mark: while one block is being sent, the next one is there.
#[cfg(all(feature = "socket-options", any(target_os = "linux", target_os = "android")))]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// What a TCP listener passes on to all that it accepts.
#[cfg(feature = "socket-options")]
fn set_options(socket: socket2::SockRef<'_>, options: &ListenOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    match options.keepalive {
        Some(time) => socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(time)),
        None => Ok(()),
    }
}

#[cfg(feature = "socket-options")]
fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if address.is_ipv6() && options.only_v6 {
        socket.set_only_v6(true)?;
    }
    set_options((&socket).into(), options)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(not(feature = "socket-options"))]
fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    check_without_socket_options(options)?;
    if options.keepalive.is_some() {
        return Err(without_socket_options("keepalive"));
    }
    TcpListener::bind(address)
}

#[cfg(feature = "socket-options")]
fn bind_unix(path: &Path, options: &ListenOptions) -> io::Result<UnixListener> {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before listening: so nobody gets in whom the mode is meant to keep out.
    set_mode(path, options)?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into()))
}

#[cfg(not(feature = "socket-options"))]
fn bind_unix(path: &Path, options: &ListenOptions) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&unix_address(path)?)?;
    set_mode(path, options)?;
    Ok(listener)
}

fn set_mode(path: &Path, options: &ListenOptions) -> io::Result<()> {
    match options.unix_mode {
        Some(mode) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

/// The longest path of a Unix socket, and the longest abstract name with its mark: unix(7), `sun_path`.
pub const UNIX_PATH_BYTES_MAX: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Whether this is a name in Linux's abstract namespace, and no path: it begins with a NUL byte.
pub fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// Whether a Unix socket can have this path.
///
/// # Errors
/// `InvalidInput`, with the length and the limit.
pub fn check_unix_path(path: &Path) -> io::Result<()> {
    match path.as_os_str().len() {
        0..=UNIX_PATH_BYTES_MAX => Ok(()),
        count => {
            let message = format!(
                "the path has {count} bytes, and a Unix socket's has at most {UNIX_PATH_BYTES_MAX}: take a shorter one"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

/// The address of a Unix socket; a path that begins with a NUL byte is an abstract name.
///
/// # Errors
/// `InvalidInput` for one that is too long.
pub fn unix_address(path: &Path) -> io::Result<UnixAddress> {
    check_unix_path(path)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt;
        return UnixAddress::from_abstract_name(name);
    }
    UnixAddress::from_pathname(path)
}

/// The number of the network interface with this name; `None` where there is none, and without the feature
/// `socket-options`.
pub fn interface(name: &str) -> Option<u32> {
    #[cfg(feature = "socket-options")]
    return nix::net::if_::if_nametoindex(name).ok();
    #[cfg(not(feature = "socket-options"))]
    {
        let _ = name;
        None
    }
}

/// Removes a socket file that a dead server left behind; leaves everything else alone.
fn make_way(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    // Non-blocking, so a live server with a full backlog is an error (and alive), not a wait.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The name of a Unix listener in the file system. Dropping it removes the file, if it still is ours.
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Another process still listens on it: it stays when the listener goes.
    is_lent: bool,
}

impl SocketFile {
    /// The file that is there now, as ours.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn of(path: &Path) -> io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        let identity = identity(&path)?;
        Ok(SocketFile { path, identity, is_lent: false })
    }

    /// The file that is there now, as that of another process, until [`Listener::own_file`].
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn lent(path: &Path) -> io::Result<SocketFile> {
        let mut file = SocketFile::of(path)?;
        file.is_lent = true;
        Ok(file)
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// Leaves it where it is.
    fn leave(mut self) {
        self.is_lent = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own socket there.
        if !self.is_lent && self.is_there() {
            let _ = std::fs::remove_file(&self.path); // nobody is left to tell
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
