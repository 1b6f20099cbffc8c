//! The hand-over: a new process takes the listening sockets from the running one, and no client is refused meanwhile.
//!
//! Both are started with the same `--take-over SOCKET`, the path of a Unix socket. A process that finds no other there is the
//! first. Else:
//!
//! ```text
//! heir                                    predecessor
//! connect ──────────────────────────────► accept
//!                                       ◄ one message for each socket, with its descriptor (SCM_RIGHTS); "end"
//! listens on them, says where
//! "taken" ──────────────────────────────► listens no more, and leaves the path to the heir
//!                                       ◄ "yours"
//! waits at the path for its own heir      serves its connections until they have finished, or drain_for
//! ```
//!
//! Between the first message and "taken" both accept from the same backlogs; each serves its own connections. An heir that
//! fails before "taken" has changed nothing: until then, the files of Unix sockets are the predecessor's. A predecessor that
//! is told to stop before "taken" leaves them for the heir. A second heir is answered "busy".
//!
//! A process that may connect to the path may take over: its file is for our own user alone (mode 600), and each side looks at the
//! other's user (SO_PEERCRED): the same one, or root.
//!
//! Invariant: at every moment a process accepts.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mio::event;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::inherited::{Giver, Inherited};
use super::reserve::Reserve;
use crate::reactor::Transport;
use crate::transport::stream::{check_unix_path, is_abstract};
use crate::transport::{ListenOptions, Listener, Stream};

/// How long an heir waits for its predecessor, at each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the predecessor waits for an heir to listen.
const HEIR_WITHIN: Duration = Duration::from_secs(30);

/// How soon it is tried again what could not be done: an accept without a descriptor ...
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// ... and sockets for which an heir's queue had no room, or a connect for which the backlog had none.
const SEND_RETRY: Duration = Duration::from_millis(10);

/// What goes with each descriptor, and what is said without one.
const SOCKET: &[u8] = b"socket\n";
const END: &[u8] = b"end\n";
const TAKEN: &[u8] = b"taken\n";
const YOURS: &[u8] = b"yours\n";
/// Another heir is there already.
const BUSY: &[u8] = b"busy\n";
/// The heir runs as another user.
const REFUSED: &[u8] = b"refused\n";

/// What we have taken, until we have said so.
pub struct Inheritance {
    path: PathBuf,
    /// `None` where we are the first.
    predecessor: Option<Predecessor>,
}

struct Predecessor {
    stream: UnixStream,
    pid: i32,
}

/// Takes the sockets of the process that listens at `path`; none, where none does.
///
/// # Errors
/// Where there is one, and the sockets don't come: it is named by its number.
pub fn take_over(path: &Path, inherited: &mut Inherited) -> io::Result<Inheritance> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("--take-over {}: {error}", path.display()));
    check_unix_path(path).map_err(named)?;
    // We are to wait there ourselves: better found out before anybody has been told that we listen.
    if path.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(named(io::Error::new(ErrorKind::NotFound, "make its directory first")));
    }
    match std::fs::metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            let problem = "the file exists and is not a socket: remove it, or give another path";
            return Err(named(io::Error::new(ErrorKind::AlreadyExists, problem)));
        }
        _ => {}
    }
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !is_abstract(path) {
        rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).map_err(|error| {
            let problem = format!("cannot write to its directory: {error}");
            named(io::Error::new(ErrorKind::PermissionDenied, problem))
        })?;
    }
    let stream = match connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(Inheritance { path: path.into(), predecessor: None });
        }
        Err(error) => return Err(named(error)),
    };
    let predecessor = Predecessor::at(stream).map_err(named)?;
    predecessor.receive(inherited).map_err(named)?;
    Ok(Inheritance { path: path.into(), predecessor: Some(predecessor) })
}

/// Connects. A backlog that is full is waited for, but not for ever, as connect(2) would.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match mio::net::UnixStream::connect(path) {
            Ok(stream) => {
                let stream = UnixStream::from(OwnedFd::from(stream));
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(SEND_RETRY);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let problem = "the process that listens there accepts no connection: it is stopped or stuck, and others \
                               wait for it already; end it, or give another path";
                return Err(io::Error::new(ErrorKind::TimedOut, problem));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether this user may take over from us, or give us sockets.
fn is_trusted(user: rustix::process::Uid) -> bool {
    user == rustix::process::geteuid() || user.is_root()
}

impl Predecessor {
    /// # Errors
    /// Where it runs as another user.
    fn at(stream: UnixStream) -> io::Result<Predecessor> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let there = socket_peercred(&stream)?;
        let pid = there.pid.as_raw_nonzero().get();
        if !is_trusted(there.uid) {
            let (its, ours) = (there.uid.as_raw(), rustix::process::geteuid().as_raw());
            let problem = format!(
                "process {pid}, which listens there, runs as user {its}, and this one as {ours}: start both as the same user"
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, problem));
        }
        Ok(Predecessor { stream, pid })
    }

    /// With what to do about it, where it is that no answer comes.
    fn explained(&self, error: io::Error) -> io::Error {
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return error;
        }
        let pid = self.pid;
        let problem = format!(
            "process {pid}, which listens there, has not answered for {PATIENCE:?}: it is stopped or stuck; end it \
             (kill {pid}) and start this one again"
        );
        io::Error::new(ErrorKind::TimedOut, problem)
    }

    /// Receives sockets up to the word that says that these were all.
    fn receive(&self, inherited: &mut Inherited) -> io::Result<()> {
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 64];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let received = received.map_err(|error| self.explained(error.into()))?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    for descriptor in descriptors {
                        inherited.add(descriptor, Giver::Predecessor)?;
                    }
                }
            }
            heard.extend_from_slice(&bytes[..received.bytes]);
            // So far, "socket" for each, and then perhaps the beginning of another word.
            let mut rest = &heard[..];
            while let Some(behind) = rest.strip_prefix(SOCKET) {
                rest = behind;
            }
            let pid = self.pid;
            let problem = match rest {
                END => return Ok(()),
                BUSY => format!(
                    "another process takes over from process {pid} just now: start this one again later"
                ),
                REFUSED => format!(
                    "process {pid}, which listens there, runs as another user: start both as the same user"
                ),
                _ if received.bytes == 0
                    || ![SOCKET, END, BUSY, REFUSED].iter().any(|it| it.starts_with(rest)) =>
                {
                    format!("process {pid}, which listens there, is no switchboard that hands over")
                }
                _ => continue,
            };
            return Err(io::Error::new(ErrorKind::InvalidData, problem));
        }
    }

    /// Says that we listen. Returns once the predecessor has left, be it that it is gone altogether.
    ///
    /// # Errors
    /// Where it is there and does not answer.
    fn relieve(&mut self) -> io::Result<()> {
        let mut answer = [0; YOURS.len()];
        let outcome = self.stream.write_all(TAKEN).and_then(|()| self.stream.read_exact(&mut answer));
        match outcome {
            Ok(()) => log::info!("taken over from process {}", self.pid),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(self.explained(error));
            }
            Err(_) => log::warn!("process {} ended while we took over from it", self.pid),
        }
        Ok(())
    }
}

impl Inheritance {
    /// We listen: the predecessor may stop, and we wait at the path for our own heir. `None` where that is not possible, and
    /// we serve as the last one.
    ///
    /// # Errors
    /// Where the predecessor does not answer; where we are the first, and can't listen at the path.
    pub fn complete(mut self) -> io::Result<Option<Succession>> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("--take-over {}: {error}", self.path.display()))
        };
        let Some(predecessor) = &mut self.predecessor else {
            return Succession::wait_at(&self.path).map(Some).map_err(named);
        };
        predecessor.relieve().map_err(named)?;
        // From here on no other process accepts: whatever goes wrong, we serve.
        let outcome = Succession::wait_at(&self.path).map_err(named);
        Ok(outcome.inspect_err(|error| log::error!("no process can take over from this one: {error}")).ok())
    }
}

/// Where we wait for a process that takes over from us.
pub struct Succession {
    path: PathBuf,
    /// `None` once the path is left to another process.
    listener: Option<Listener>,
    /// The latch: an heir may be there. Set by an event, and cleared by an accept that would block.
    is_called: bool,
    /// After an accept that failed, when it is tried again.
    rests_until: Option<Instant>,
    heir: Option<Heir>,
}

struct Heir {
    stream: Stream,
    pid: i32,
    /// How many sockets it has been sent; all, and the word that these were all, is `None`.
    given: Option<usize>,
    heard: Vec<u8>,
    deadline: Instant,
}

/// What an heir has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none.
    None,
    /// It has our sockets, or is being given them.
    Taking,
    /// It listens.
    Taken,
}

impl Succession {
    fn wait_at(path: &Path) -> io::Result<Succession> {
        let options = ListenOptions { unix_mode: Some(0o600), backlog: 16, ..ListenOptions::default() };
        let listener = Some(Listener::unix(path, &options)?);
        Ok(Succession { path: path.into(), listener, is_called: true, rests_until: None, heir: None })
    }

    /// The socket to watch: an heir may connect to it.
    pub(super) fn source(&mut self) -> Option<&mut impl event::Source> {
        self.listener.as_mut()
    }

    /// An event came, which may be ours.
    pub(super) fn latch(&mut self) {
        self.is_called = true;
    }

    /// How long the loop may sleep.
    pub(super) fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let left = |deadline: Instant| deadline.saturating_duration_since(now);
        let accept = self.rests_until.filter(|_| self.is_called).map(left);
        let heir = self.heir.as_ref().map(|heir| match heir.given {
            Some(_) => SEND_RETRY,
            None => left(heir.deadline),
        });
        accept.into_iter().chain(heir).min()
    }

    /// Accepts the heirs that have come, gives our sockets to the first and answers the others.
    /// Returns what it has come to.
    pub(super) fn serve<'a>(
        &mut self,
        reserve: &mut Reserve,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Stage {
        if self.is_called && self.rests_until.is_none_or(|until| until <= Instant::now()) {
            self.rests_until = None;
            self.accept(reserve);
        }
        let Some(heir) = &mut self.heir else { return Stage::None };
        let pid = heir.pid;
        let problem = match heir.give(sockets).and_then(|()| heir.is_taken()) {
            Ok(true) => return Stage::Taken,
            Ok(false) if Instant::now() < heir.deadline => return Stage::Taking,
            Ok(false) => format!("process {pid} has not said within {HEIR_WITHIN:?} that it listens"),
            Err(error) => format!("process {pid}: {error}"),
        };
        log::error!("not handed over: {problem}");
        self.heir = None;
        reserve.refill();
        Stage::None
    }

    /// Accepts until that would block.
    fn accept(&mut self, reserve: &mut Reserve) {
        let Some(listener) = &mut self.listener else {
            self.is_called = false;
            return;
        };
        let mut is_lent = false;
        loop {
            match Stream::accept(listener) {
                Ok((stream, _)) => {
                    if let Some(heir) = greet(stream, self.heir.as_ref()) {
                        log::info!("handing over to process {} at {}", heir.pid, self.path.display());
                        self.heir = Some(heir);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_called = false;
                    break;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // Without a descriptor, most likely. There is a reserve for that.
                Err(_) if !is_lent => {
                    reserve.lend();
                    is_lent = true;
                }
                Err(error) => {
                    if self.rests_until.is_none() {
                        log::warn!("a process that wants to take over waits: {error}");
                    }
                    self.rests_until = Some(Instant::now() + ACCEPT_RETRY);
                    break;
                }
            }
        }
        if is_lent {
            reserve.refill();
        }
    }

    /// The heir, to be watched.
    pub(super) fn heir(&mut self) -> Option<&mut impl event::Source> {
        self.heir.as_mut().map(|heir| &mut heir.stream)
    }

    /// The heir can't be watched.
    pub(super) fn drop_heir(&mut self, error: &io::Error) {
        log::error!("not handed over: {error}");
        self.heir = None;
    }

    /// Whether an heir has our sockets, and has not said yet that it listens.
    pub(super) fn is_handing_over(&self) -> bool {
        self.heir.is_some()
    }

    /// We stop: the path is free, and its file is removed. An heir that is there may still say that it listens.
    pub(super) fn leave_path(&mut self) {
        self.listener = None;
    }

    /// The path is the heir's from now on.
    pub(super) fn leave(mut self) {
        self.leave_path();
        if let Some(mut heir) = self.heir {
            let _ = heir.stream.write(YOURS); // an heir that is gone needs no answer
        }
    }
}

/// The heir on this connection; `None` where there is one already, or it is of another user, which it is told.
fn greet(mut stream: Stream, there: Option<&Heir>) -> Option<Heir> {
    let credentials = match &stream {
        Stream::Unix(socket) => socket_peercred(socket.as_fd()).ok(),
        _ => None,
    }?;
    let pid = credentials.pid.as_raw_nonzero().get();
    let answer = match there {
        _ if !is_trusted(credentials.uid) => {
            let user = credentials.uid.as_raw();
            log::warn!("not handed over to process {pid}: it runs as user {user}");
            REFUSED
        }
        Some(there) => {
            log::warn!("not handed over to process {pid}: process {} is taking over", there.pid);
            BUSY
        }
        None => {
            let deadline = Instant::now() + HEIR_WITHIN;
            return Some(Heir { stream, pid, given: Some(0), heard: Vec::new(), deadline });
        }
    };
    let _ = stream.write(answer); // there is room in a new connection's queue; one that is gone needs no answer
    None
}

impl Heir {
    /// Sends it what it has not been sent yet, as long as there is room. One message for each: a stream keeps descriptors
    /// of different messages apart, and their number unbounded.
    fn give<'a>(&mut self, sockets: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
        let Some(given) = &mut self.given else { return Ok(()) };
        let Stream::Unix(socket) = &self.stream else { return Err(ErrorKind::Unsupported.into()) };
        for descriptor in sockets.skip(*given) {
            let descriptors = [descriptor];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            match sendmsg(socket, &[IoSlice::new(SOCKET)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => *given += 1,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(went_away(error.into())),
            }
        }
        match self.stream.write(END) {
            Ok(_) => self.given = None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(went_away(error)),
        }
        Ok(())
    }

    /// Whether it has said that it listens.
    ///
    /// # Errors
    /// Where it went away instead, or says something else.
    fn is_taken(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) if count > 0 => self.heard.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) if self.heard == TAKEN => break,
                Ok(_) | Err(_) => return Err(went_away(ErrorKind::UnexpectedEof.into())),
            }
            if !TAKEN.starts_with(&self.heard) {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "it does not speak as a switchboard that takes over",
                ));
            }
        }
        Ok(self.heard == TAKEN)
    }
}

/// Returns one error for each way in which the end of the other process shows: an end of file when we read, and
/// `EPIPE` or `ECONNRESET` when we write before that. Other errors stay as they are.
fn went_away(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            io::Error::other("the other process went away")
        }
        _ => error,
    }
}
