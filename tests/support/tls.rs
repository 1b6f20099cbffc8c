//! The verbs of the tests of TLS: authorities and what they sign, and clients who speak TLS on blocking sockets.
//!
//! A client here is rustls over a plain socket, one step at a time: what it says is encrypted first and written then,
//! so that a test can write the ciphertext in pieces, leave some of it out, or write it from another thread.
//!
//! Invariant: an end that was not announced (close_notify) is never taken for one that was.

#![allow(dead_code)] // each test file uses its part of the verbs

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};

use super::{Directory, PATIENCE, assert_same};

/// When a certificate holds: years, the first and the one after the last.
pub(crate) type Years = (i32, i32);
pub(crate) const NOW: Years = (2000, 2100);
pub(crate) const LONG_GONE: Years = (2000, 2001);
pub(crate) const NOT_YET: Years = (2100, 2101);

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Papers {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    /// Of this name: a certificate names its issuer, and one of the same name can only be told by its signature.
    pub(crate) fn called(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1));
        Authority(CertifiedIssuer::self_signed(params, key()).expect("it can be signed"))
    }

    /// Signs for this name, from the one year to the other.
    pub(crate) fn signs(&self, name: &str, (from, to): Years) -> Papers {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a right name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = key();
        let cert = params.signed_by(&key, &self.0).expect("it can be signed");
        Papers { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

impl Papers {
    /// The certificate as a client sees it.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("it is our own PEM")
    }
}

/// The files of a server: they can be replaced while it runs.
pub(crate) struct Files(Directory);

impl Files {
    pub(crate) fn of(papers: &Papers) -> Files {
        let files = Files(Directory::new());
        files.replace(papers);
        files
    }

    pub(crate) fn replace(&self, papers: &Papers) {
        self.write("cert.pem", &papers.cert);
        self.write("key.pem", &papers.key);
    }

    /// Writes one of them, and says where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("the directory is ours");
        self.path_of(name)
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// The arguments of a server that shows them at this URL.
    pub(crate) fn serve(&self, url: &str) -> Vec<String> {
        let (cert, key) = (self.path_of("cert.pem"), self.path_of("key.pem"));
        ["serve", "--listen", url, "--cert", &cert, "--key", &key].map(String::from).to_vec()
    }
}

/// What a client believes, shows and speaks.
#[derive(Clone)]
pub(crate) struct Caller {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Caller {
    /// Believes this authority, shows nothing, and speaks what is newest.
    pub(crate) fn believing(authority: &Authority) -> Caller {
        Caller::with(authority, None, rustls::ALL_VERSIONS)
    }

    /// Shows these papers, if it is asked for some.
    pub(crate) fn showing(authority: &Authority, papers: &Papers) -> Caller {
        Caller::with(authority, Some(papers), rustls::ALL_VERSIONS)
    }

    /// Speaks this version only.
    pub(crate) fn speaking(authority: &Authority, version: &'static SupportedProtocolVersion) -> Caller {
        Caller::with(authority, None, &[version])
    }

    pub(crate) fn with(
        authority: &Authority,
        papers: Option<&Papers>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider speaks them")
            .with_root_certificates(roots);
        let config = match papers {
            None => builder.with_no_client_auth(),
            Some(papers) => {
                let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).expect("it is our own PEM");
                builder.with_client_auth_cert(vec![papers.der()], key).expect("they belong together")
            }
        };
        Caller { config: Arc::new(config), name: "localhost".try_into().expect("a right name") }
    }

    /// Wants to speak to a server of another name.
    pub(crate) fn asking_for(mut self, name: &'static str) -> Caller {
        self.name = name.try_into().expect("a right name");
        self
    }

    /// Offers to speak these protocols (ALPN).
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Caller {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Connects, and says nothing yet.
    pub(crate) fn connect(&self, address: SocketAddr) -> Secure {
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).expect("the name is right");
        connection.set_buffer_limit(None); // what is said is encrypted at once, and written then
        Secure { connection, socket: plain(address) }
    }

    /// Connects, and goes through the handshake.
    pub(crate) fn call(&self, address: SocketAddr) -> Secure {
        let mut client = self.connect(address);
        client.shake_hands().unwrap_or_else(|error| panic!("the handshake: {error}"));
        client
    }

    /// The handshake comes to nothing because of us: why.
    pub(crate) fn refuses(&self, address: SocketAddr) -> rustls::Error {
        let mut client = self.connect(address);
        match client.shake_hands() {
            Ok(()) => panic!("the handshake succeeds"),
            Err(error) => reason(&error),
        }
    }

    /// The server doesn't want us: what its alert says. In TLS 1.3 it comes when our own handshake is through.
    pub(crate) fn is_refused(&self, address: SocketAddr) -> rustls::Error {
        let mut client = self.connect(address);
        let outcome = client.shake_hands().and_then(|()| client.read(&mut [0]));
        match outcome {
            Ok(count) => panic!("it is let in, and hears {count} bytes"),
            Err(error) => reason(&error),
        }
    }
}

/// What rustls says is wrong.
fn reason(error: &io::Error) -> rustls::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.unwrap_or_else(|| panic!("{error} has nothing to do with TLS")).clone()
}

/// A socket to the server, without TLS.
pub(crate) fn plain(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("somebody listens");
    socket.set_nodelay(true).expect("the socket is ours");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket.set_write_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

/// Everything up to the end of a socket, be it a reset.
pub(crate) fn hear_it_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} instead of an end, after {heard:?}"),
    }
    heard
}

/// Somebody who speaks TLS.
pub(crate) struct Secure {
    connection: ClientConnection,
    pub(crate) socket: TcpStream,
}

impl Secure {
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// The same, with a write per byte.
    pub(crate) fn shake_hands_by_bytes(&mut self) {
        while self.connection.is_handshaking() {
            let ciphertext = self.ciphertext();
            by_bytes(&mut self.socket, &ciphertext);
            if self.connection.is_handshaking() {
                self.take_in().expect("the handshake succeeds");
            }
        }
        let ciphertext = self.ciphertext();
        by_bytes(&mut self.socket, &ciphertext);
    }

    /// What was said and not yet written, as it goes over the wire; for a new client that is its hello.
    pub(crate) fn ciphertext(&mut self) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut ciphertext).expect("a Vec takes everything");
        }
        ciphertext
    }

    /// These bytes, encrypted, and not written.
    pub(crate) fn encrypt(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.connection.writer().write_all(bytes.as_ref()).expect("the buffer has no limit");
        self.ciphertext()
    }

    /// Which protocol was agreed on (ALPN).
    pub(crate) fn agreed(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// What announces our end (close_notify), and is not written.
    pub(crate) fn farewell(&mut self) -> Vec<u8> {
        self.connection.send_close_notify();
        self.ciphertext()
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let ciphertext = self.encrypt(bytes);
        self.write(&ciphertext);
    }

    /// Says it from another thread, which can take as long as it likes, and announces the end behind it.
    pub(crate) fn say_all_aside(&mut self, bytes: &[u8]) -> JoinHandle<()> {
        let mut ciphertext = self.encrypt(bytes);
        ciphertext.extend(self.farewell());
        let mut socket = self.socket.try_clone().expect("a descriptor is free");
        thread::spawn(move || socket.write_all(&ciphertext).expect("the server takes what we say"))
    }

    /// Writes ciphertext.
    pub(crate) fn write(&mut self, ciphertext: &[u8]) {
        self.socket.write_all(ciphertext).expect("the server takes what we say");
    }

    /// Announces our end, and still listens. No FIN: that is TCP's affair.
    pub(crate) fn half_close(&mut self) {
        let farewell = self.farewell();
        self.write(&farewell);
    }

    /// Our FIN, announced or not.
    pub(crate) fn fin(&self) {
        self.socket.shutdown(Shutdown::Write).expect("the connection stands");
    }

    pub(crate) fn hear(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut heard = vec![0; expected.len()];
        let mut filled = 0;
        while filled < heard.len() {
            match self.read(&mut heard[filled..]) {
                Ok(0) => panic!("the end after {filled} bytes of {}", expected.len()),
                Ok(count) => filled += count,
                Err(error) => panic!("{error} after {filled} bytes of {}", expected.len()),
            }
        }
        assert_same(&heard, expected);
    }

    pub(crate) fn echo(&mut self, bytes: impl AsRef<[u8]>) {
        self.say(bytes.as_ref());
        self.hear(bytes);
    }

    /// Hears everything up to the server's close_notify, and behind that its FIN.
    pub(crate) fn hear_until_the_end(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            match self.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&piece[..count]),
                Err(error) => panic!("{error} instead of a close_notify, after {} bytes", heard.len()),
            }
        }
        let behind = self.socket.read(&mut [0]).expect("the server's FIN");
        assert_eq!(behind, 0, "nothing comes after a close_notify");
        heard
    }

    /// The server's close_notify and FIN, with nothing before them.
    pub(crate) fn hear_end(&mut self) {
        assert_same(&self.hear_until_the_end(), b"");
    }

    /// Plaintext, as it comes; 0 only after a close_notify.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.take_in()?,
                outcome => return outcome,
            }
        }
    }

    /// Ciphertext from the socket; without any the connection is told of the end.
    fn take_in(&mut self) -> io::Result<()> {
        self.connection.read_tls(&mut self.socket)?;
        let outcome = self.connection.process_new_packets();
        outcome.map(drop).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    pub(crate) fn kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// The certificate that the server has shown.
    pub(crate) fn shown(&self) -> &CertificateDer<'static> {
        let chain = self.connection.peer_certificates().expect("the handshake is through");
        &chain[0]
    }
}

/// A write per byte, and a segment for each.
pub(crate) fn by_bytes(socket: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        socket.write_all(&[*byte]).expect("the server takes what we say");
    }
}
