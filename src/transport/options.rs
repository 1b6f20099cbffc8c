//! Options of listening sockets.

#[cfg(not(feature = "socket-options"))]
use std::io;
use std::time::Duration;

/// What a listening socket can be told. Not all of it means something to every kind of socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that the kernel holds until we accept them; it caps this at `somaxconn`. Without the
    /// feature `socket-options`, mio's default is used.
    pub backlog: u32,
    /// TCP: probe a silent peer after this long, to notice that its machine is gone. Needs the feature
    /// `socket-options`.
    pub keepalive: Option<Duration>,
    /// TCP and UDP: let other processes listen on the same port (SO_REUSEPORT); the kernel spreads new
    /// connections over them. Needs the feature `socket-options`.
    pub reuse_port: bool,
    /// TCP and UDP at `[::]`: take IPv6 alone (IPV6_V6ONLY), so that another socket can listen at 0.0.0.0 on the same port. Needs
    /// the feature `socket-options`.
    pub only_v6: bool,
    /// Unix: the permission bits of the socket's file. `None`: as the umask leaves them.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { backlog: 4096, keepalive: None, reuse_port: false, only_v6: false, unix_mode: None }
    }
}

/// What streams and datagrams can't be told.
#[cfg(not(feature = "socket-options"))]
pub(super) fn check_without_socket_options(options: &ListenOptions) -> io::Result<()> {
    match options {
        ListenOptions { reuse_port: true, .. } => Err(without_socket_options("reuse_port")),
        ListenOptions { only_v6: true, .. } => Err(without_socket_options("only_v6")),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "socket-options"))]
pub(super) fn without_socket_options(option: &str) -> io::Error {
    let message = format!("{option} needs the feature `socket-options`");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
