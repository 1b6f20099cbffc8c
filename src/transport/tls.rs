//! TLS 1.3 and 1.2 (RFC 8446, RFC 5246), by rustls: records in between, and nothing else changed.
//!
//! [`Session`] is the state machine over any non-blocking stream: it never waits, and keeps the promises that
//! [`Transport`] asks for. [`Tls`] is a session with the stream beneath it. What a listener needs
//! to know is a [`ServerTls`], what a client needs a [`ClientTls`]; both are values, shared by all their connections,
//! so that a listener can be given another one while the old connections go on with theirs.
//!
//! What is easy to get wrong, and where it is done here:
//!
//! - Plaintext that is left inside the session raises no event: `read` says would-block only when it has none.
//! - Ciphertext that the socket did not take is not lost and not unbounded: `write` takes nothing before it has gone,
//!   and `flush` says would-block until then.
//! - The end of file is not the end: a stream that ends without close_notify was cut off, by a third party
//!   (`UnexpectedEof`). Our own close_notify goes out, whole, before our FIN.
//! - A handshake that fails says why to the peer (the alert) and to the log. A client that speaks plain HTTP understands
//!   no alert: it is answered in HTTP.
//!
//! The provider is aws-lc-rs: on one core of an AMD EPYC it makes 15,200 full handshakes a second (server's side,
//! ECDSA P-256, X25519) where ring makes 12,600, and brings the post-quantum X25519MLKEM768; a fresh build takes 37 s
//! where ring's takes 16.
//!
//! Invariant: bytes that `write` took are in the session or the kernel, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::reactor::Transport;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::pem;

/// Ciphertext is read in pieces of at most this.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where ciphertext lies between the socket and the session: one block that stays warm, for all sessions of a
    /// loop. (The session's own buffer would be read into 4 KiB at a time.)
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// One connection's TLS, without its socket. See the module's text.
pub struct Session {
    connection: Connection,
    /// Ciphertext that was read, and that the session could not take in before its plaintext has gone. Mostly empty.
    pending: Vec<u8>,
    /// The last read found the stream empty, and nothing else is left to tell.
    emptied: bool,
    /// What the stream beneath promises; see [`crate::reactor::Transport::short_read_means_empty`].
    short_read_means_empty: bool,
    /// Our close_notify is in the session, or out.
    said_end: bool,
    /// Bytes that the stream beneath has taken in [`Session::flush`].
    passed_on: u64,
    /// What went wrong; told when the plaintext before it has been read.
    broken: Option<rustls::Error>,
    first: First,
}

/// The first bytes that a server receives.
#[derive(Debug)]
enum First {
    /// These so far. They may be the beginning of an HTTP request.
    Unknown(Vec<u8>),
    /// The session has them.
    Tls,
    /// They are an HTTP request.
    Http,
}

/// What plain HTTP is answered with.
const PLAIN_HTTP: &str = "\
    HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 70\r\nConnection: close\r\n\r\n\
    This port speaks TLS, and the request is plain HTTP: use an https URL\n";

/// Whether these are the first bytes of an HTTP request; `None` where more are needed to tell. TLS begins with no letter.
fn is_http(bytes: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
        b"PRI ",
    ];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(true);
    }
    match METHODS.iter().any(|method| method.starts_with(bytes)) {
        true => None,
        false => Some(false),
    }
}

impl Session {
    fn new(connection: impl Into<Connection>, short_read_means_empty: bool) -> Session {
        let connection = connection.into();
        let first = match connection {
            Connection::Server(_) => First::Unknown(Vec::new()),
            Connection::Client(_) => First::Tls,
        };
        Session {
            connection,
            first,
            pending: Vec::new(),
            emptied: false,
            short_read_means_empty,
            said_end: false,
            passed_on: 0,
            broken: None,
        }
    }

    /// Takes the handshake as far as it gets. `WouldBlock`: more events are needed.
    ///
    /// # Errors
    /// `InvalidData` with the reason where it fails; the peer has been sent the alert that says so, or an answer in HTTP
    /// where that is what it speaks.
    pub fn establish(&mut self, io: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            self.flush(io)?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            self.read_some(io, &mut [], &mut 0)?;
            if let First::Http = self.first {
                // A new socket takes it whole; a peer that resets does without.
                let _ = io.write(PLAIN_HTTP.as_bytes());
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer speaks plain HTTP"));
            }
            if let Some(error) = self.broken.take() {
                let _ = self.flush(io); // the alert; a peer that doesn't take it gets none
                return Err(broken(&error));
            }
            if self.emptied {
                self.flush(io)?;
                return match self.connection.is_handshaking() {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                };
            }
        }
    }

    /// Reads plaintext. `Ok(0)`: the peer said that this is the end of its side.
    ///
    /// # Errors
    /// `UnexpectedEof` where the stream ends and the peer had not said so; `InvalidData` where it breaks the rules.
    pub fn read(&mut self, io: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        self.emptied = false;
        loop {
            match self.connection.reader().read(&mut into[filled..]) {
                Ok(count) if count > 0 => {
                    filled += count;
                    if filled == into.len() {
                        return Ok(filled);
                    }
                    continue;
                }
                // More is waiting inside.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end, in order or not: behind what came before it.
                end if filled == 0 => return end,
                _ => {
                    self.emptied = false;
                    return Ok(filled);
                }
            }
            if self.broken.is_some() || self.emptied {
                return match (filled, &self.broken) {
                    (0, Some(error)) => Err(broken(error)),
                    (0, None) => Err(io::ErrorKind::WouldBlock.into()),
                    (_, Some(_)) => {
                        self.emptied = false;
                        Ok(filled)
                    }
                    (_, None) => Ok(filled),
                };
            }
            self.read_some(io, into, &mut filled)?;
        }
    }

    /// Reads what is dropped. Behind our own close_notify the records are not deciphered: it would be work for nothing, and
    /// an alert about a bad one is more than the session may send then (rustls asserts that in debug builds).
    ///
    /// # Errors
    /// Those of the stream, and of [`Session::read`].
    pub fn discard(&mut self, io: &mut impl Read, scratch: &mut [u8]) -> io::Result<usize> {
        if !self.said_end {
            return self.read(io, scratch);
        }
        self.emptied = false;
        io.read(scratch)
    }

    /// Whether a read that came back short has left nothing to be read, not even an end. As a short read of a TCP
    /// socket means on Linux.
    pub fn is_emptied(&self) -> bool {
        self.emptied
    }

    /// Brings ciphertext from the stream into the session; plaintext goes to `into` as far as there is room.
    fn read_some(&mut self, io: &mut impl Read, into: &mut [u8], filled: &mut usize) -> io::Result<()> {
        self.emptied = false; // what an earlier read found says nothing of this one, which may be interrupted
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.take_in(&pending, into, filled);
            return Ok(());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            // Plaintext is shorter than its ciphertext: what is read finds room, mostly.
            let asked = scratch.len().min((into.len() - *filled).max(4096));
            match io.read(&mut scratch[..asked]) {
                Ok(0) => {
                    let _ = self.connection.read_tls(&mut io::empty()); // so it knows
                    if self.connection.is_handshaking() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(count) if !matches!(self.first, First::Tls) => self.take_first(&scratch[..count]),
                Ok(count) => {
                    self.take_in(&scratch[..count], into, filled);
                    // Where no plaintext came of it we would say would-block, and only a would-block proves that:
                    // the end may lie behind a short read.
                    self.emptied = *filled > 0 && count < asked && self.short_read_means_empty;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.emptied = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    /// Takes in the first bytes, once it is known that they are no HTTP request.
    fn take_first(&mut self, bytes: &[u8]) {
        let First::Unknown(begun) = &mut self.first else { return };
        let mut begun = std::mem::take(begun);
        let whole = match begun.is_empty() {
            true => bytes,
            false => {
                begun.extend_from_slice(bytes);
                &begun
            }
        };
        match is_http(whole) {
            Some(true) => self.first = First::Http,
            None => self.first = First::Unknown(whole.to_vec()),
            Some(false) => {
                self.first = First::Tls;
                self.take_in(whole, &mut [], &mut 0);
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8], into: &mut [u8], filled: &mut usize) {
        let mut taken = 0;
        while taken < bytes.len() && self.broken.is_none() {
            match self.connection.read_tls(&mut &bytes[taken..]) {
                Ok(count) if count > 0 => taken += count,
                // It is full of plaintext; or it has heard the end, and nothing behind that counts.
                _ => break,
            }
            if let Err(error) = self.connection.process_new_packets() {
                self.broken = Some(error);
            }
            while *filled < into.len() {
                match self.connection.reader().read(&mut into[*filled..]) {
                    Ok(count) if count > 0 => *filled += count,
                    _ => break, // the caller asks again, and is told why
                }
            }
        }
        if self.broken.is_none() {
            self.pending.extend_from_slice(&bytes[taken..]);
        }
    }

    /// Encrypts, and writes as far as the stream takes it; nothing is taken in before earlier ciphertext has gone.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn write(&mut self, io: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        self.flush(io)?;
        let count = self.connection.writer().write(bytes)?;
        match self.flush(io) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Writes the ciphertext that is left.
    ///
    /// # Errors
    /// `WouldBlock` until all of it is out; those of the stream.
    pub fn flush(&mut self, io: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(io) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => self.passed_on += outcome? as u64,
            }
        }
        Ok(())
    }

    /// Returns how many bytes the stream beneath has taken.
    pub fn passed_on(&self) -> u64 {
        self.passed_on
    }

    /// Says that our side ends here (close_notify).
    ///
    /// # Errors
    /// Those of [`Session::flush`].
    pub fn finish(&mut self, io: &mut impl Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.said_end, true) {
            self.connection.send_close_notify();
        }
        self.flush(io)
    }
}

#[cold]
fn broken(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// Why a client and a server did not come to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsRefusal {
    /// None of the authorities that the client believes has signed the server's certificate.
    UnknownAuthority,
    /// The server's certificate is for other names than the one that the client expects.
    WrongName,
    /// It was valid until some time ago.
    Expired,
    /// It will be valid.
    NotYetValid,
    /// The server wants a certificate of the client's, or another one.
    WantsCertificate,
    /// What the server sends is no TLS.
    NoTls,
    /// Something else, in rustls's words.
    Other(String),
}

impl TlsRefusal {
    /// Returns what an error of a session says; `None`: it is an error of the socket.
    fn of(error: &io::Error) -> Option<TlsRefusal> {
        use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
        Some(match error.get_ref()?.downcast_ref::<Error>()? {
            // The second: by an authority of the same name, with another key.
            Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
                TlsRefusal::UnknownAuthority
            }
            Error::InvalidCertificate(
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
            ) => TlsRefusal::WrongName,
            Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
                TlsRefusal::Expired
            }
            Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
                TlsRefusal::NotYetValid
            }
            Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied,
            ) => TlsRefusal::WantsCertificate,
            // The second and third: our own hello comes back.
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => TlsRefusal::NoTls,
            other => TlsRefusal::Other(other.to_string()),
        })
    }
}

/// What is known of a connection's other end once its handshake is through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// `TLS 1.3` or `TLS 1.2`.
    pub version: &'static str,
    /// An earlier handshake was resumed, by a ticket.
    pub resumed: bool,
    /// How long the handshake took, from when bytes could flow.
    pub took: Duration,
    /// The subject of the certificate that the peer has shown, and we have verified, as in `CN=alice`.
    pub subject: Option<String>,
    /// The host that the peer wanted to speak to, as it said itself (SNI).
    pub server_name: Option<String>,
}

/// A session and the stream beneath it.
pub struct Tls<S> {
    below: S,
    session: Session,
    /// Bytes can flow below: a connect has come through.
    connected: bool,
    began: Instant,
    took: Duration,
    /// Of a client: where it notes why the server and it did not come to a session.
    refusal: Option<Arc<OnceLock<TlsRefusal>>>,
}

impl<S: Transport> Tls<S> {
    /// For a connection that was accepted.
    ///
    /// # Errors
    /// Where the session can't be made.
    pub fn accepted(below: S, tls: &ServerTls) -> io::Result<Tls<S>> {
        let connection = ServerConnection::new(Arc::clone(&tls.0)).map_err(|error| broken(&error))?;
        Ok(Tls::new(below, connection, None))
    }

    /// For a connect that is under way.
    ///
    /// # Errors
    /// Where the session can't be made.
    pub fn connecting(below: S, tls: &ClientTls) -> io::Result<Tls<S>> {
        let connection = ClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone());
        Ok(Tls::new(below, connection.map_err(|error| broken(&error))?, Some(Arc::clone(&tls.refusal))))
    }

    fn new(
        below: S,
        connection: impl Into<Connection>,
        refusal: Option<Arc<OnceLock<TlsRefusal>>>,
    ) -> Tls<S> {
        let session = Session::new(connection, below.short_read_means_empty());
        Tls { below, session, connected: false, began: Instant::now(), took: Duration::ZERO, refusal }
    }

    /// Keeps the first reason; see [`ClientTls::refusal`].
    #[cold]
    fn note_refusal(&self, error: &io::Error) {
        if let (Some(noted), Some(refusal)) = (&self.refusal, TlsRefusal::of(error)) {
            let _ = noted.set(refusal); // the first one stays
        }
    }

    /// The stream beneath.
    pub fn below(&self) -> &S {
        &self.below
    }

    /// The stream beneath, to be watched.
    pub fn below_mut(&mut self) -> &mut S {
        &mut self.below
    }

    /// Takes the connect and the handshake as far as they get.
    ///
    /// # Errors
    /// `WouldBlock` until both are through; those of either.
    pub fn establish(&mut self) -> io::Result<()> {
        if !self.connected {
            self.below.establish()?;
            self.connected = true;
            self.began = Instant::now();
        }
        match self.session.establish(&mut self.below) {
            Ok(()) => {
                self.took = self.began.elapsed();
                Ok(())
            }
            Err(error) => {
                self.note_refusal(&error);
                if let First::Http = self.session.first {
                    self.leave_in_order();
                }
                Err(error)
            }
        }
    }

    /// Sends our FIN, and takes what has arrived: a socket that is closed with bytes unread resets its connection, and a
    /// reset destroys an answer that is on its way.
    fn leave_in_order(&mut self) {
        let _ = self.below.finish(false);
        SCRATCH.with_borrow_mut(|scratch| {
            for _ in 0..4 {
                if !matches!(self.below.read(scratch), Ok(count) if count > 0) {
                    break;
                }
            }
        });
    }

    /// See [`Session::is_emptied`].
    pub fn is_emptied(&self) -> bool {
        self.session.is_emptied()
    }

    /// Reads what is dropped; see [`Session::discard`].
    ///
    /// # Errors
    /// Those of [`Session::discard`].
    pub fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        self.session.discard(&mut self.below, scratch)
    }

    /// See [`Session::passed_on`].
    pub fn passed_on(&self) -> u64 {
        self.session.passed_on()
    }

    /// Our close_notify, and behind it our FIN; where this stream is dropped next (`last`), that sends the FIN.
    ///
    /// # Errors
    /// Those of [`Session::flush`] and shutdown(2).
    pub fn finish(&mut self, last: bool) -> io::Result<()> {
        self.session.finish(&mut self.below)?;
        match last {
            true => Ok(()),
            false => self.below.finish(false),
        }
    }

    /// What is known of the other end.
    pub fn secured(&self) -> Secured {
        let connection = &self.session.connection;
        let subject = connection
            .peer_certificates()
            .and_then(|certificates| x509_parser::parse_x509_certificate(certificates.first()?).ok())
            .map(|(_, certificate)| certificate.subject().to_string());
        let server_name = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        Secured {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            took: self.took,
            subject,
            server_name,
        }
    }
}

impl<S: Transport> Read for Tls<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // With TLS 1.3 the client's handshake is through before the server has looked at its certificate.
        let outcome = self.session.read(&mut self.below, into);
        if let Err(error) = &outcome
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.note_refusal(error);
        }
        outcome
    }
}

impl<S: Transport> Write for Tls<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.write(&mut self.below, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush(&mut self.below)
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// What a listener says of itself, and asks of its clients.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// A certificate with its chain and its key, from PEM files; the order in them does not matter. With `client_ca`, the handshake
    /// fails for a client without a certificate that one of those authorities has signed.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn from_files(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerTls, String> {
        let (chain, fitting) = chain_and_key(cert, key)?;
        warn_of_its_time(cert, &chain[0]);
        ServerTls::new(chain, fitting, client_ca, || misfit(cert, key))
    }

    /// A certificate of our own making, for development: `names` are the hosts and addresses that it is for. Nothing
    /// is written anywhere.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn self_signed(made: &SelfSigned, client_ca: Option<&Path>) -> Result<ServerTls, String> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key.clone()));
        ServerTls::new(vec![made.certificate.clone()], key, client_ca, || "it does not fit itself".into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_ca: Option<&Path>,
        misfit: impl FnOnce() -> String,
    ) -> Result<ServerTls, String> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider()).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| format!("{}: {error}", path.display()))?,
                )
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => misfit(),
            error => error.to_string(),
        })?;
        config.ignore_client_order = true; // the stronger one of what both have, and not the client's taste
        // Tickets hold their sessions themselves: the server remembers nothing. A new key is made every six
        // hours, and with every configuration: what another one has verified is not taken for verified.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(ServerTls(Arc::new(config)))
    }

    /// The same, for clients that speak this protocol. It has the name of the handshake (ALPN, RFC 7301), as `http/1.1`. A
    /// client that only offers other protocols is refused; a client that offers none is served.
    pub fn speaking(self, protocol: &str) -> ServerTls {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        ServerTls(Arc::new(config))
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that vouches for itself, with its key.
pub struct SelfSigned {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

impl SelfSigned {
    /// For these hosts and addresses.
    ///
    /// # Errors
    /// Where a name is none.
    pub fn new(names: Vec<String>) -> Result<SelfSigned, String> {
        let named = |error: rcgen::Error| format!("no certificate can be made: {error}");
        let mut params = rcgen::CertificateParams::new(names).map_err(named)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "switchboard, self-signed");
        // From yesterday, for clocks that are slow, and for as long as browsers believe any.
        let now = x509_parser::time::ASN1Time::now().to_datetime();
        params.not_before = now - DAY;
        params.not_after = now + 365 * DAY;
        let key = rcgen::KeyPair::generate().map_err(named)?;
        let made = params.self_signed(&key).map_err(named)?;
        Ok(SelfSigned { certificate: made.der().clone(), key: key.serialize_der(), pem: made.pem() })
    }

    /// SHA-256 of the certificate, in the usual notation: what a person compares.
    pub fn fingerprint(&self) -> String {
        let digest = aws_lc_rs_digest(&self.certificate);
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// The certificate, without its key, for clients that are to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// SHA-256, as the handshakes' own provider computes it.
fn aws_lc_rs_digest(bytes: &[u8]) -> Vec<u8> {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().expect("it is one of TLS 1.3").common.hash_provider;
    hash.hash(bytes).as_ref().to_vec()
}

/// What a client believes, and says of itself.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    refusal: Arc<OnceLock<TlsRefusal>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTls({:?})", self.server_name)
    }
}

/// Whom a client believes.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Whom an authority in this PEM file has signed for.
    Authorities(&'a Path),
    /// Any server: anyone in between can read and change everything.
    Anybody,
}

impl ClientTls {
    /// For the server of this name (a host or an address), with a certificate and a key to show, if it asks.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn new(
        server_name: &str,
        trust: Trust<'_>,
        shown: Option<(&Path, &Path)>,
        resume: bool,
    ) -> Result<ClientTls, String> {
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| format!("{server_name:?} is no host name and no address"))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match trust {
            Trust::Authorities(path) => builder.with_root_certificates(roots(path)?),
            Trust::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(BelievesAnybody(provider())))
            }
        };
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (chain, fitting) = chain_and_key(cert, key)?;
                builder
                    .with_client_auth_cert(chain, fitting)
                    .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))?
            }
        };
        config.resumption = match resume {
            true => Resumption::store(Arc::new(Sessions::default())),
            false => Resumption::disabled(),
        };
        let tls = ClientTls { config: Arc::new(config), server_name, refusal: Arc::default() };
        // The first session sets up what all of them share; that is no part of a connection's time.
        ClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone())
            .map_err(|error| error.to_string())?;
        Ok(tls)
    }

    /// Returns why the first connection that failed did, if one has: of all connections with these settings, and their
    /// clones.
    pub fn refusal(&self) -> Option<&TlsRefusal> {
        self.refusal.get()
    }
}

/// What a client may resume. rustls's own store holds eight tickets of a server, and each is good for one connection
/// (RFC 8446, appendix C.4): a client that opens many at once would start most of them again from a full handshake.
#[derive(Debug)]
struct Sessions {
    /// All but the tickets of TLS 1.3.
    others: ClientSessionMemoryCache,
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

/// Beyond, the oldest goes.
const TICKETS_MAX: usize = 4096;

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { others: ClientSessionMemoryCache::new(8), tickets: Mutex::default() }
    }
}

impl Sessions {
    fn tickets(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`ClientTls`] has one server name, so the store needs no other key.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.others.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.others.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.others.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.others.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.others.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.tickets();
        if tickets.len() == TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    /// The newest, which is good for longest.
    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets().pop_back()
    }
}

/// Signatures are checked, so that the handshake is a real one; whose they are is not.
#[derive(Debug)]
struct BelievesAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for BelievesAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot read it: {error}", path.display()))
}

/// The blocks of a file that `wants` takes. What belongs to the other kind of file, or to none of ours, such as parameters of
/// a curve, is known and passed over; anything else is refused, because a block that is skipped is missed later.
fn blocks<T>(
    path: &Path,
    bytes: &[u8],
    mut wants: impl FnMut(&mut pem::Block<'_>) -> Result<Option<T>, String>,
) -> Result<Vec<T>, String> {
    let placed = |place, problem| format!("{}:{place}: {problem}", path.display());
    let mut wanted = Vec::new();
    for mut block in pem::blocks(bytes).map_err(|(place, problem)| placed(place, problem))? {
        match wants(&mut block).map_err(|problem| placed(block.place, problem))? {
            Some(it) => wanted.push(it),
            None => match block.label {
                "CERTIFICATE" | "EC PARAMETERS" | "DH PARAMETERS" | "PUBLIC KEY" => {}
                label if label.ends_with("PRIVATE KEY") => {}
                label => return Err(placed(block.place, format!("a {label} is not read here: take it out"))),
            },
        }
    }
    Ok(wanted)
}

/// What to write about a file without any of what is sought.
fn nothing_in(path: &Path, bytes: &[u8], what: &str) -> String {
    let hint = match bytes.first() {
        Some(0x30) => "; it looks like DER or PKCS #12: have openssl write it as PEM",
        _ => "",
    };
    format!("{}: there is no {what}){hint}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let chain = blocks(path, &bytes, |block| match block.label {
        "CERTIFICATE" | "X509 CERTIFICATE" => {
            let der = std::mem::take(&mut block.der);
            match x509_parser::parse_x509_certificate(&der) {
                Ok(([], _)) => Ok(Some(CertificateDer::from(der))),
                _ => Err("it holds something that is no certificate".into()),
            }
        }
        _ => Ok(None),
    })?;
    match chain.is_empty() {
        true => Err(nothing_in(path, &bytes, "certificate in it (PEM, BEGIN CERTIFICATE")),
        false => Ok(chain),
    }
}

fn private_keys(path: &Path) -> Result<Vec<PrivateKeyDer<'static>>, String> {
    let bytes = read(path)?;
    let keys = blocks(path, &bytes, |block| {
        let of = match block.label {
            "PRIVATE KEY" => |der: Vec<u8>| PrivateKeyDer::Pkcs8(der.into()),
            "RSA PRIVATE KEY" => |der: Vec<u8>| PrivateKeyDer::Pkcs1(der.into()),
            "EC PRIVATE KEY" => |der: Vec<u8>| PrivateKeyDer::Sec1(der.into()),
            "ENCRYPTED PRIVATE KEY" => return Err(ENCRYPTED.into()),
            label if label.ends_with("PRIVATE KEY") => {
                return Err(format!("a key of this form is not read: {UNKNOWN_KEY}"));
            }
            _ => return Ok(None),
        };
        match block.is_encrypted {
            true => Err(ENCRYPTED.into()),
            false => Ok(Some(of(std::mem::take(&mut block.der)))),
        }
    })?;
    match keys.is_empty() {
        true => Err(nothing_in(path, &bytes, "private key in it (PEM, BEGIN PRIVATE KEY")),
        false => Ok(keys),
    }
}

const ENCRYPTED: &str = "the key is encrypted: decrypt it first (openssl pkey -in FILE -out FILE)";
const UNKNOWN_KEY: &str =
    "make one of ECDSA P-256, P-384 or P-521, of RSA with 2048 bits or more, or of Ed25519";

/// A chain in the order in which it is sent, with the key of its first certificate. TLS wants the server's own first (RFC
/// 8446 section 4.4.2), and some clients want each one's issuer next; files come in any order.
fn chain_and_key(
    cert: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let mut rest = certificates(cert)?;
    let mut fitting = None;
    for candidate in private_keys(key)? {
        let signing = aws_lc_rs::sign::any_supported_type(&candidate)
            .map_err(|_| format!("{}: {}", key.display(), what_is_wrong_with(&candidate)))?;
        let public = signing.public_key();
        let fits = |certificate: &CertificateDer<'_>| match &public {
            Some(public) => parsed(certificate).is_some_and(|it| it.public_key().raw == public.as_ref()),
            None => true, // the handshake will tell
        };
        if let Some(index) = rest.iter().position(fits) {
            fitting = Some((index, candidate));
            break;
        }
    }
    let (own, fitting) = fitting.ok_or_else(|| misfit(cert, key))?;
    let mut chain = vec![rest.remove(own)];
    if parsed(&chain[0]).is_some_and(|it| it.version() != X509Version::V3) {
        return Err(format!(
            "{}: the certificate is of X.509 version 1, which clients refuse: make one of version 3, with its hosts as subjectAltName",
            cert.display()
        ));
    }
    while let Some(index) = rest.iter().position(|other| is_issuer(other, &chain[chain.len() - 1])) {
        chain.push(rest.remove(index));
    }
    chain.extend(rest); // of another chain, such as a cross-signed one: some clients find their way by it
    Ok((chain, fitting))
}

fn misfit(cert: &Path, key: &Path) -> String {
    format!("{}: the key does not fit the certificate in {}", key.display(), cert.display())
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed)
}

/// Whether the one may have signed the other.
fn is_issuer(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    let (Some(one), Some(other)) = (parsed(one), parsed(other)) else { return false };
    one.subject().as_raw() == other.issuer().as_raw() && one.subject().as_raw() != other.subject().as_raw()
}

/// Why a key can't be used, in words for the person that has to make another one.
fn what_is_wrong_with(key: &PrivateKeyDer<'_>) -> String {
    /// Object identifiers as they are encoded.
    const RSA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const SECP256K1: [u8; 7] = [6, 5, 0x2b, 0x81, 4, 0, 0x0a];
    let der = key.secret_der();
    let names = |identifier: &[u8]| der.windows(identifier.len()).any(|bytes| bytes == identifier);
    let problem = match key {
        _ if names(&SECP256K1) => "the key is on the curve secp256k1, which TLS does not use".into(),
        PrivateKeyDer::Pkcs8(_) if names(&RSA) => rsa_problem(inner_key(der).unwrap_or_default()),
        PrivateKeyDer::Pkcs1(_) => rsa_problem(der),
        _ => "the key is damaged, or of a kind that is not spoken here".into(),
    };
    format!("{problem}: {UNKNOWN_KEY}")
}

fn rsa_problem(pkcs1: &[u8]) -> String {
    match rsa_bits(pkcs1) {
        Some(bits @ 0..2048) => format!("the RSA key has {bits} bits, which is too few"),
        Some(bits) if bits > 8192 => format!("the RSA key has {bits} bits, which is too many"),
        _ => "the RSA key is damaged".into(),
    }
}

/// The key in PKCS #8 (RFC 5208): version, algorithm, key.
fn inner_key(pkcs8: &[u8]) -> Option<&[u8]> {
    let (content, _) = der_value(pkcs8)?;
    let (_, content) = der_value(content)?;
    let (_, content) = der_value(content)?;
    der_value(content).map(|(key, _)| key)
}

/// The length of the modulus in PKCS #1 (RFC 8017): version, modulus, and others.
fn rsa_bits(pkcs1: &[u8]) -> Option<usize> {
    let (content, _) = der_value(pkcs1)?;
    let (_, content) = der_value(content)?;
    let (modulus, _) = der_value(content)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

/// The first value of DER, and what comes behind it.
fn der_value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, content) = match *der.get(1)? {
        len if len < 0x80 => (usize::from(len), der.get(2..)?),
        0x81 => (usize::from(*der.get(2)?), der.get(3..)?),
        0x82 => (usize::from(u16::from_be_bytes([*der.get(2)?, *der.get(3)?])), der.get(4..)?),
        _ => return None,
    };
    content.split_at_checked(len)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// A certificate out of its time is one that clients will refuse: worth saying, and theirs to decide.
fn warn_of_its_time(path: &Path, certificate: &CertificateDer<'_>) {
    if let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) {
        let validity = certificate.validity();
        if !validity.is_valid() {
            log::warn!(
                "{}: the certificate is valid from {} to {}, and not now",
                path.display(),
                validity.not_before,
                validity.not_after
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::wire::{Remote, Wire, wire};
    use proptest::prelude::*;

    /// A server's session on one end of a wire, and a client's that the test carries out by hand.
    struct Pair {
        near: Wire,
        far: Remote,
        server: Session,
        client: ClientConnection,
    }

    fn pair() -> Pair {
        static CONFIGS: OnceLock<(ServerTls, ClientTls)> = OnceLock::new();
        let (server, client) = CONFIGS.get_or_init(|| {
            let made = SelfSigned::new(vec!["localhost".into()]).expect("a certificate");
            let server = ServerTls::self_signed(&made, None).expect("it fits");
            (server, ClientTls::new("localhost", Trust::Anybody, None, false).expect("a name"))
        });
        let (near, far) = wire();
        let server = Session::new(ServerConnection::new(Arc::clone(&server.0)).expect("a session"), true);
        let client = ClientConnection::new(Arc::clone(&client.config), client.server_name.clone());
        Pair { near, far, server, client: client.expect("a session") }
    }

    impl Pair {
        /// What the client has to send.
        fn client_says(&mut self) -> Vec<u8> {
            let mut said = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut said).expect("a Vec takes everything");
            }
            said
        }

        /// The client takes in what the server has sent; returns the plaintext.
        fn client_hears(&mut self) -> Vec<u8> {
            let heard = self.far.hear();
            let (mut rest, mut plaintext) = (&heard[..], Vec::new());
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).expect("it reads");
                self.client.process_new_packets().expect("the server keeps the rules");
                let _ = self.client.reader().read_to_end(&mut plaintext); // would-block ends it, too
            }
            plaintext
        }

        fn is_through(&mut self) -> bool {
            match self.server.establish(&mut self.near) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            }
        }

        fn shake_hands(&mut self) {
            while !self.is_through() || self.client.is_handshaking() {
                let said = self.client_says();
                self.far.say(&said);
                self.is_through();
                self.client_hears();
            }
        }

        /// Everything that can be read now, in reads of `size`; and what ends it.
        fn read_all(&mut self, size: usize) -> (Vec<u8>, io::Result<()>) {
            let (mut heard, mut into) = (Vec::new(), vec![0; size]);
            loop {
                match self.server.read(&mut self.near, &mut into) {
                    Ok(0) => return (heard, Ok(())),
                    Ok(count) => heard.extend_from_slice(&into[..count]),
                    Err(error) => return (heard, Err(error)),
                }
            }
        }
    }

    fn kind(outcome: &io::Result<()>) -> Option<io::ErrorKind> {
        outcome.as_ref().err().map(io::Error::kind)
    }

    #[test]
    fn a_handshake_and_its_first_message_come_through_cut_at_every_place() {
        // The client's last flight and its first message, in one piece with the message behind it.
        for at in 0.. {
            let mut pair = pair();
            let hello = pair.client_says();
            let cut = at.min(hello.len());
            pair.far.say(&hello[..cut]);
            assert!(!pair.is_through());
            pair.far.say(&hello[cut..]);
            assert!(!pair.is_through());
            pair.client_hears();
            pair.client.writer().write_all(b"hello").expect("there is room");
            let finish = pair.client_says();
            let cut = at.min(finish.len());
            pair.far.say(&finish[..cut]);
            let early = pair.is_through();
            pair.far.say(&finish[cut..]);
            assert!(early || pair.is_through());
            let (heard, end) = pair.read_all(64);
            assert_eq!((&heard[..], kind(&end)), (&b"hello"[..], Some(io::ErrorKind::WouldBlock)));
            if at > hello.len().max(finish.len()) {
                break;
            }
        }
    }

    /// Found by the simulation: what the read before had found was taken for what this one had, and the handshake waited for an
    /// event that had come already.
    #[test]
    fn a_handshake_goes_on_behind_a_read_that_is_interrupted() {
        struct Interrupted<'a>(&'a mut Wire, bool);
        impl Read for Interrupted<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                match std::mem::replace(&mut self.1, false) {
                    true => Err(io::ErrorKind::Interrupted.into()),
                    false => self.0.read(into),
                }
            }
        }
        impl Write for Interrupted<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                self.0.flush()
            }
        }
        let mut pair = pair();
        let hello = pair.client_says();
        pair.far.say(&hello);
        assert!(!pair.is_through()); // it waits for the client's last flight
        pair.client_hears();
        let finish = pair.client_says();
        pair.far.say(&finish);
        assert!(pair.server.establish(&mut Interrupted(&mut pair.near, true)).is_ok());
    }

    #[test]
    fn an_end_that_was_said_is_told_from_a_stream_that_was_cut_off() {
        for (said, expected) in [(true, None), (false, Some(io::ErrorKind::UnexpectedEof))] {
            let mut pair = pair();
            pair.shake_hands();
            pair.client.writer().write_all(b"the last words").expect("there is room");
            if said {
                pair.client.send_close_notify();
            }
            let last = pair.client_says();
            pair.far.say(&last);
            if !said {
                pair.far.finish();
            }
            let mut into = [0; 64];
            let count = pair.server.read(&mut pair.near, &mut into).expect("the last words");
            assert_eq!(&into[..count], b"the last words");
            // (A FIN is an event of its own.)
            assert!(!said || !pair.server.is_emptied(), "there is an end to be told of, and no event will");
            assert_eq!(kind(&pair.read_all(64).1), expected);
            // Our own direction is still open.
            assert_eq!(pair.server.write(&mut pair.near, b"and mine").expect("it is taken"), 8);
            assert_eq!(pair.client_hears(), b"and mine");
        }
    }

    #[test]
    fn our_end_is_said_whole_before_it_is_done() {
        let mut pair = pair();
        pair.shake_hands();
        pair.far.make_room(0);
        let blocked = pair.server.finish(&mut pair.near).expect_err("there is no room");
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        pair.far.make_room(3);
        assert!(pair.server.finish(&mut pair.near).is_err(), "a part of it is not it");
        pair.far.make_room(usize::MAX);
        pair.server.finish(&mut pair.near).expect("now it is out");
        pair.client_hears();
        let end = pair.client.reader().read(&mut [0; 8]).expect("an end in order");
        assert_eq!(end, 0);
    }

    #[test]
    fn garbage_fails_the_handshake_and_the_peer_is_told_why() {
        for garbage in [&b"HELO world\r\n\r\n"[..], b"GETTING in", &[0x16; 64], &[0; 64], &[0xFF; 70_000]] {
            let mut pair = pair();
            pair.far.say(garbage);
            let error = pair.server.establish(&mut pair.near).expect_err("it is no hello");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            let alert = pair.far.hear();
            assert!(alert.first() == Some(&21), "{alert:?} is no alert");
        }
    }

    #[test]
    fn plain_http_is_answered_in_http_at_every_split() {
        let request = b"OPTIONS / HTTP/1.0\r\n\r\n";
        for at in 1..request.len() {
            let mut pair = pair();
            pair.far.say(&request[..at]);
            let mut error = pair.server.establish(&mut pair.near).expect_err("it is no hello");
            if at < b"OPTIONS ".len() {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "after {at} bytes");
                pair.far.say(&request[at..]);
                error = pair.server.establish(&mut pair.near).expect_err("it is no hello");
            }
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            let answer = String::from_utf8(pair.far.hear()).expect("it is text");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{answer}");
        }
    }

    #[test]
    fn a_record_that_was_tampered_with_ends_it_behind_what_was_right() {
        let mut pair = pair();
        pair.shake_hands();
        pair.client.writer().write_all(b"right").expect("there is room");
        let right = pair.client_says();
        pair.client.writer().write_all(b"wrong").expect("there is room");
        let mut wrong = pair.client_says();
        *wrong.last_mut().expect("it is not empty") ^= 1;
        pair.far.say(&[right, wrong].concat());
        let (heard, end) = pair.read_all(64);
        assert_eq!((&heard[..], kind(&end)), (&b"right"[..], Some(io::ErrorKind::InvalidData)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn bytes_come_through_in_order_whatever_the_stream_does(
            messages in prop::collection::vec(1usize..40_000, 1..8),
            reads in prop::collection::vec(0usize..20_000, 1..12),
            writes in prop::collection::vec(0usize..20_000, 1..12),
            size in 1usize..70_000,
        ) {
            let mut pair = pair();
            pair.shake_hands();
            let (mut said, mut heard, mut echoed) = (Vec::new(), Vec::new(), Vec::new());
            // The last size of a script stays; a would-block for ever would be none.
            pair.far.reads_return(reads.into_iter().chain([usize::MAX]));
            pair.far.writes_take(writes.into_iter().chain([usize::MAX]));
            let mut sent = 0;
            for (index, len) in messages.into_iter().enumerate() {
                let message: Vec<u8> = (0..len).map(|at| (at * 31 + index) as u8).collect();
                said.extend_from_slice(&message);
                let mut rest = &message[..];
                while !rest.is_empty() {
                    let count = pair.client.writer().write(rest).expect("there is room");
                    rest = &rest[count..];
                    let ciphertext = pair.client_says();
                    pair.far.say(&ciphertext);
                }
                for _ in 0..30 {
                    let (more, end) = pair.read_all(size);
                    prop_assert_eq!(kind(&end), Some(io::ErrorKind::WouldBlock));
                    heard.extend(more);
                    while sent < heard.len() {
                        match pair.server.write(&mut pair.near, &heard[sent..]) {
                            Ok(count) => sent += count,
                            Err(error) => {
                                prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                                break;
                            }
                        }
                    }
                    let _ = pair.server.flush(&mut pair.near);
                    echoed.extend(pair.client_hears());
                }
            }
            prop_assert_eq!(&heard, &said);
            prop_assert_eq!(&echoed, &said);
        }
    }
}
