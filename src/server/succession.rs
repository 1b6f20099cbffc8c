//! The hand-over: a new process takes the listening sockets from the running one, and nobody is refused meanwhile.
//!
//! Both are started with the same `--take-over SOCKET`, the path of a Unix socket. Whoever finds nobody there is the
//! first. Else:
//!
//! ```text
//! heir                                    predecessor
//! connect ──────────────────────────────► accept
//!                                       ◄ one message for each socket, with its descriptor (SCM_RIGHTS); "end"
//! listens on them, says where
//! "taken" ──────────────────────────────► listens no more, and leaves the path to the heir
//!                                       ◄ "yours"
//! waits at the path for its own heir      serves those who are there until they have finished, or drain_for
//! ```
//!
//! Between the first message and "taken" both accept from the same backlogs; each serves whom it has. An heir that
//! fails before "taken" has changed nothing. Who may connect to the path may take over: its file is for our own user
//! alone (mode 600).
//!
//! Invariant: at every moment somebody accepts.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::event;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::inherited::{Giver, Inherited};
use crate::reactor::Transport;
use crate::transport::stream::check_unix_path;
use crate::transport::{ListenOptions, Listener, Stream};

/// How long the other one is waited for, at each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// What goes with each descriptor, and what is said without one.
const SOCKET: &[u8] = b"socket\n";
const END: &[u8] = b"end\n";
const TAKEN: &[u8] = b"taken\n";
const YOURS: &[u8] = b"yours\n";

/// What we have taken, until we have said so.
pub struct Inheritance {
    path: PathBuf,
    /// `None` where we are the first.
    predecessor: Option<UnixStream>,
}

/// Takes the sockets of whoever listens at `path`; none, where nobody does.
///
/// # Errors
/// Where there is somebody, and the sockets don't come.
pub fn take_over(path: &Path, inherited: &mut Inherited) -> io::Result<Inheritance> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("--take-over {}: {error}", path.display()));
    check_unix_path(path).map_err(named)?;
    // We are to wait there ourselves: better found out before anybody has been told that we listen.
    if path.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(named(io::Error::new(io::ErrorKind::NotFound, "make its directory first")));
    }
    let predecessor = match UnixStream::connect(path) {
        Ok(predecessor) => predecessor,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(Inheritance { path: path.into(), predecessor: None });
        }
        Err(error) => return Err(named(error)),
    };
    predecessor.set_read_timeout(Some(PATIENCE)).map_err(named)?;
    predecessor.set_write_timeout(Some(PATIENCE)).map_err(named)?;
    receive(&predecessor, inherited).map_err(named)?;
    Ok(Inheritance { path: path.into(), predecessor: Some(predecessor) })
}

/// Receives sockets up to the word that says that these were all.
fn receive(from: &UnixStream, inherited: &mut Inherited) -> io::Result<()> {
    let mut heard = Vec::new();
    loop {
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    inherited.add(descriptor, Giver::Predecessor)?;
                }
            }
        }
        heard.extend_from_slice(&bytes[..received.bytes]);
        // So far, "socket" for each, and then perhaps the beginning of "end".
        let mut rest = &heard[..];
        while let Some(behind) = rest.strip_prefix(SOCKET) {
            rest = behind;
        }
        if rest == END {
            return Ok(());
        }
        if received.bytes == 0 || !(SOCKET.starts_with(rest) || END.starts_with(rest)) {
            let what = "who listens there is no switchboard that hands over";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
}

impl Inheritance {
    /// We listen: the predecessor may stop, and we wait at the path for our own heir.
    ///
    /// # Errors
    /// Where the path can't be listened at.
    pub fn complete(mut self) -> io::Result<Succession> {
        if let Some(predecessor) = &mut self.predecessor {
            let mut answer = [0; YOURS.len()];
            let outcome = predecessor.write_all(TAKEN).and_then(|()| predecessor.read_exact(&mut answer));
            match outcome {
                Ok(()) => log::info!("taken over from the process at {}", self.path.display()),
                Err(error) => log::warn!("the process that we take over from does not answer: {error}"),
            }
        }
        Succession::wait_at(&self.path)
    }
}

/// Where we wait for whoever is to take over from us.
pub struct Succession {
    path: PathBuf,
    listener: Listener,
    heir: Option<Heir>,
}

struct Heir {
    stream: Stream,
    heard: Vec<u8>,
}

impl Succession {
    fn wait_at(path: &Path) -> io::Result<Succession> {
        let options = ListenOptions { unix_mode: Some(0o600), backlog: 1, ..ListenOptions::default() };
        let listener = Listener::unix(path, &options).map_err(|error| {
            io::Error::new(error.kind(), format!("--take-over {}: {error}", path.display()))
        })?;
        Ok(Succession { path: path.into(), listener, heir: None })
    }

    /// What is to be watched: an heir may come.
    pub(super) fn source(&mut self) -> &mut impl event::Source {
        &mut self.listener
    }

    /// Whether somebody has come; if so, he has been given these sockets.
    pub(super) fn greets<'a>(&mut self, sockets: impl Iterator<Item = BorrowedFd<'a>>) -> bool {
        let Ok((mut stream, _)) = Stream::accept(&mut self.listener) else { return false };
        log::info!("handing over to another process at {}", self.path.display());
        match give(&mut stream, sockets) {
            Ok(()) => self.heir = Some(Heir { stream, heard: Vec::new() }),
            Err(error) => log::error!("not handed over: {error}"),
        }
        self.heir.is_some()
    }

    /// Who has come, to be watched: he has something to say.
    pub(super) fn heir(&mut self) -> Option<&mut impl event::Source> {
        self.heir.as_mut().map(|heir| &mut heir.stream)
    }

    /// Whether the heir has said that he listens. One that went away instead is forgotten.
    pub(super) fn is_taken(&mut self) -> bool {
        let Some(heir) = &mut self.heir else { return false };
        let mut bytes = [0; 16];
        loop {
            match heir.stream.read(&mut bytes) {
                Ok(count) if count > 0 && heir.heard.len() < TAKEN.len() => {
                    heir.heard.extend_from_slice(&bytes[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return heir.heard == TAKEN;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    let taken = heir.heard == TAKEN;
                    if !taken {
                        log::error!("not handed over: the other process went away");
                        self.heir = None;
                    }
                    return taken;
                }
            }
        }
    }

    /// The path is the heir's from now on.
    pub(super) fn leave(self) {
        let Succession { listener, heir, .. } = self;
        drop(listener); // and with it, the file
        if let Some(mut heir) = heir {
            let _ = heir.stream.write(YOURS); // if nobody hears it, nobody waits for it
        }
    }
}

/// One message for each: a stream keeps descriptors of different messages apart, and their number unbounded.
fn give<'a>(to: &mut Stream, sockets: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    let Stream::Unix(socket) = &*to else { return Err(io::ErrorKind::Unsupported.into()) };
    for descriptor in sockets {
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(socket, &[IoSlice::new(SOCKET)], &mut control, SendFlags::NOSIGNAL)?;
    }
    to.write_all(END)
}
