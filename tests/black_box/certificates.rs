//! TLS from outside: who gets in with which certificate, how a connection ends, and what a reload changes.
#![cfg(all(feature = "cli", feature = "tls", target_os = "linux"))]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::support::*;

const TLS: &str = "tls://127.0.0.1:0";
const TLS_LINES: &str = "tls+lines://127.0.0.1:0";

/// An authority, and a directory for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: Directory,
}

/// The paths of a certificate and its key.
struct Signed {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        let authority = Authority { issuer: Issuer::new(params, key), pem, directory: Directory::new() };
        fs::write(authority.path("ca.pem"), &authority.pem).expect("the directory is ours");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// Signs for this host, from 2020 to `until`.
    fn signs_until(&self, name: &str, host: &str, until: i32) -> Signed {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("it signs");
        let signed =
            Signed { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&signed.cert, cert.pem()).expect("the directory is ours");
        fs::write(&signed.key, key.serialize_pem()).expect("the directory is ours");
        signed
    }

    fn signs(&self, name: &str, host: &str) -> Signed {
        self.signs_until(name, host, 2100)
    }

    /// Runs a server with this certificate.
    fn serve(&self, signed: &Signed, listen: &str, more: &[&str]) -> Server {
        let mut command = switchboard();
        command.args(["serve", "--listen", listen, "--log-level", "debug", "--cert"]).arg(&signed.cert);
        command.arg("--key").arg(&signed.key).args(more);
        let mut server = Server::start_command(&mut command, 1);
        server.read_log();
        server
    }

    /// A client that believes this authority, and shows this certificate.
    fn client(&self, shown: Option<&Signed>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("ours")).expect("an authority");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(signed) => {
                let chain = CertificateDer::pem_file_iter(&signed.cert).expect("ours");
                let key = PrivateKeyDer::from_pem_file(&signed.key).expect("ours");
                let chain = chain.collect::<Result<_, _>>().expect("ours");
                builder.with_client_auth_cert(chain, key).expect("it fits")
            }
        })
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn call_as(server: &Server, config: &Arc<ClientConfig>, host: &'static str) -> Secure {
    let socket = TcpStream::connect(server.url().split_once("://").expect("a URL").1).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let host = host.try_into().expect("a host");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), host).expect("a session"), socket)
}

fn call(server: &Server, config: &Arc<ClientConfig>) -> Secure {
    call_as(server, config, "localhost")
}

fn echo(stream: &mut Secure, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard)?;
    assert_eq!(heard, text.as_bytes());
    Ok(())
}

/// Everything up to a close_notify.
fn to_the_end(stream: &mut Secure) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an end in order");
    heard
}

fn reload(server: &Server) {
    let heeded = |log: &[String]| log.iter().filter(|line| line.contains("reloaded")).count();
    let before = heeded(&server.log());
    server.signal(Signal::SIGHUP);
    until("the reload", || (heeded(&server.log()) > before).then_some(()));
}

#[test]
fn a_right_certificate_gets_through_and_wrong_ones_cost_nobody_else_anything() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.serve(&ours.signs("server", "localhost"), TLS, &[]);
    let config = ours.client(None);
    let mut alice = call(&server, &config);
    echo(&mut alice, "hello").expect("she believes it");
    let mut stranger = call(&server, &theirs.client(None));
    assert!(echo(&mut stranger, "hello").is_err(), "another authority");
    let mut elsewhere = call_as(&server, &config, "example.com");
    assert!(echo(&mut elsewhere, "hello").is_err(), "another host");
    server.logs("the handshake with 127.0.0.1");
    echo(&mut alice, "still here").expect("she was not concerned");
    server.stop();
}

#[test]
fn with_a_client_ca_only_its_clients_reach_the_service() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = ours.path("ca.pem").display().to_string();
    let server = ours.serve(&ours.signs("server", "localhost"), TLS, &["--client-ca", &ca]);
    let mut alice = call(&server, &ours.client(Some(&ours.signs("alice", "alice"))));
    echo(&mut alice, "hello").expect("she is known");
    let refused = [
        ours.client(None),
        ours.client(Some(&theirs.signs("mallory", "mallory"))),
        ours.client(Some(&ours.signs_until("expired", "expired", 2021))),
    ];
    for config in &refused {
        assert!(echo(&mut call(&server, config), "let me in").is_err());
    }
    echo(&mut alice, "still here").expect("she was not concerned");
    let summary = server.stop().summary();
    assert_eq!((summary.of("bytes in"), summary.of("unestablished")), (15, 3), "{summary:?}");
}

#[test]
fn a_reload_changes_the_certificate_for_new_connections_alone() {
    let (old, new) = (Authority::new(), Authority::new());
    let signed = old.signs("server", "localhost");
    let server = old.serve(&signed, TLS, &[]);
    let mut alice = call(&server, &old.client(None));
    echo(&mut alice, "hello").expect("she believes the old one");

    fs::write(&signed.cert, "no certificate at all").expect("the directory is ours");
    server.signal(Signal::SIGHUP);
    server.logs("not reloaded, everything stays as it is");
    server.logs("there is no certificate in it");
    echo(&mut call(&server, &old.client(None)), "as before").expect("the old one is still there");

    let renewed = new.signs("renewed", "localhost");
    fs::copy(&renewed.cert, &signed.cert).expect("the directory is ours");
    fs::copy(&renewed.key, &signed.key).expect("the directory is ours");
    reload(&server);
    echo(&mut call(&server, &new.client(None)), "hello").expect("the new one");
    assert!(echo(&mut call(&server, &old.client(None)), "hello").is_err(), "the old one is gone");
    echo(&mut alice, "still here").expect("she goes on with the old one");
    server.stop();
}

#[test]
fn a_line_that_was_cut_off_is_not_served() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "localhost"), TLS_LINES, &[]);
    let config = ours.client(None);
    let mut alice = call(&server, &config);
    alice.write_all(b"whole\ncut o").expect("it is taken");
    alice.sock.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(to_the_end(&mut alice), b"whole\n");
    let mut bob = call(&server, &config);
    bob.write_all(b"whole\nand whole").expect("it is taken");
    bob.conn.send_close_notify();
    bob.flush().expect("it is taken");
    assert_eq!(to_the_end(&mut bob), b"whole\nand whole\n", "an end that was said ends a line, too");
    let summary = server.stop().summary();
    assert_eq!((summary.of("truncated"), summary.of("closed")), (1, 2), "{summary:?}");
}

#[test]
fn sigterm_answers_what_was_said_and_says_its_end() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "localhost"), TLS, &[]);
    let mut alice = call(&server, &ours.client(None));
    echo(&mut alice, "hello").expect("she is in");
    server.pause();
    alice.write_all(&[7; 100_000]).expect("the kernel takes it");
    server.signal(Signal::SIGTERM);
    server.go_on();
    let heard = to_the_end(&mut alice); // a close_notify: without one, this would be an error
    assert!(!heard.is_empty() && heard.iter().all(|byte| *byte == 7));
    drop(alice);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn five_mebibytes_come_back_and_a_second_handshake_is_resumed() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "localhost"), TLS, &[]);
    let config = ours.client(None);
    let said = pattern(1, 5 * MIB);
    let mut alice = call(&server, &config);
    let mut heard = vec![0; said.len()];
    for (said, heard) in said.chunks(100_000).zip(heard.chunks_mut(100_000)) {
        alice.write_all(said).expect("it is taken");
        alice.read_exact(heard).expect("it comes back");
    }
    assert_same(&heard, &said);
    assert_eq!(alice.conn.handshake_kind(), Some(HandshakeKind::Full));
    let mut again = call(&server, &config);
    echo(&mut again, "hello").expect("she is known");
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    server.stop();
}

#[test]
fn who_does_not_finish_the_handshake_is_closed_at_its_deadline_and_holds_up_nobody() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "localhost"), TLS, &["--handshake-within", "500ms"]);
    let config = ours.client(None);
    let mut alice = call(&server, &config);
    echo(&mut alice, "hello").expect("she is in");
    let address = server.url().split_once("://").expect("a URL").1.to_owned();
    let mut idle: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(&address).expect("nobody is refused")).collect();
    // A hello that never ends: bytes don't move the deadline.
    idle[0].write_all(&[0x16, 3, 1, 2, 0, 1]).expect("it is taken");
    let closed = |socket: &mut TcpStream| {
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("not zero");
        match socket.read(&mut [0; 64]) {
            Ok(0) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
            Ok(_) => false,
        }
    };
    until("the deadline of all", || {
        echo(&mut alice, "talking").expect("she is not concerned");
        let _ = idle[0].write_all(&[1]);
        let mut last = idle.pop()?;
        if !closed(&mut last) {
            idle.push(last);
        }
        idle.is_empty().then_some(())
    });
    let summary = server.stop().summary();
    assert_eq!(summary.of("handshake-timeout"), 300, "{summary:?}");
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let ours = Authority::new();
    let (one, other) = (ours.signs("one", "localhost"), ours.signs("other", "localhost"));
    let path = |path: &PathBuf| path.display().to_string();
    let (cert, key, ca) = (path(&one.cert), path(&one.key), path(&ours.path("ca.pem")));
    let missing = path(&ours.path("missing.pem"));
    for (arguments, complaint) in [
        (vec![], "needs a certificate: give --cert FILE and --key FILE".to_owned()),
        (vec!["--cert", &cert], "--cert needs its --key".into()),
        (vec!["--key", &key], "--key needs its --cert".into()),
        (vec!["--cert", &missing, "--key", &key], format!("{missing}: cannot read it: No such file")),
        (vec!["--cert", &key, "--key", &key], format!("{key}: there is no certificate in it")),
        (vec!["--cert", &cert, "--key", &ca], format!("{ca}: there is no private key in it")),
        (
            vec!["--cert", &cert, "--key", &path(&other.key)],
            format!("{}: the key does not fit the certificate in {cert}", path(&other.key)),
        ),
        (vec!["--self-signed", "--cert", &cert, "--key", &key], "--self-signed makes a certificate".into()),
        (
            vec!["--cert", &cert, "--key", &key, "--client-ca", &key],
            format!("{key}: there is no certificate in it"),
        ),
    ] {
        let output =
            switchboard().args(["serve", "--listen", TLS]).args(&arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("switchboard: ") && last.contains(&complaint), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn a_chain_is_served_whole_however_its_file_is_joined() {
    let root = Authority::new();
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    let between_key = KeyPair::generate().expect("a key");
    let between_pem = params.signed_by(&between_key, &root.issuer).expect("it signs").pem();
    let between = Authority {
        issuer: Issuer::new(params, between_key),
        pem: between_pem.clone(),
        directory: Directory::new(),
    };
    let signed = between.signs("server", "localhost");
    let read = |path: &PathBuf| fs::read_to_string(path).expect("ours");
    let (own, key) = (read(&signed.cert), read(&signed.key));
    let own_alone = own.trim_end();
    for (name, text) in [
        ("as ACME clients write it", format!("{own}{between_pem}")),
        ("without a line end between them", format!("{own_alone}{between_pem}")),
        ("with a byte order mark", format!("\u{feff}{own}{between_pem}")),
        ("with a byte order mark in the middle", format!("{own_alone}\u{feff}{between_pem}")),
        ("with text around", format!("Bag Attributes: a - b\n{own}issuer=CN = x\n{between_pem}end\n")),
        ("its own last", format!("{between_pem}{own}")),
        ("with the key between", format!("{between_pem}{key}{own}")),
        ("with CRLF", format!("{own}{between_pem}").replace('\n', "\r\n")),
    ] {
        fs::write(&signed.cert, text).expect("the directory is ours");
        let server = between.serve(&signed, TLS, &[]);
        let mut alice = call(&server, &root.client(None));
        echo(&mut alice, "hello").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(alice.conn.peer_certificates().map(<[_]>::len), Some(2), "{name}");
        drop(alice);
        server.stop();
    }
    // What can't be read whole is not read at all.
    for (text, problem) in [
        (format!("{own}{}", between_pem.replace("-----END CERTIFICATE-----", "")), "without its end"),
        (format!("{own}{}", between_pem.replace("-----BEGIN", "----BEGIN")), "five dashes that are neither"),
        (format!("{own}{}", between_pem.replacen("MI", "M?", 1)), "not base64"),
        (format!("{own}-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "a X509 CRL is not read"),
    ] {
        fs::write(&signed.cert, text).expect("the directory is ours");
        let arguments = ["check", "--listen", TLS, "--cert"].map(String::from).into_iter();
        let (cert, key) = (signed.cert.display().to_string(), signed.key.display().to_string());
        let output = run(&arguments.chain([cert.clone(), "--key".into(), key]).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        let begins = format!("switchboard: {cert}:{}", own.lines().count());
        assert!(output.status.code() == Some(2) && said.contains(problem), "{said}");
        assert!(said.starts_with(&begins[..begins.len() - 1]) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_key_or_certificate_that_nobody_could_use_is_refused_in_one_sentence() {
    let file = |name: &str| format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    for (cert, key, culprit, problem) in [
        ("v1.pem", "v1.key", "v1.pem", "X.509 version 1"),
        ("rsa-1024.pem", "rsa-1024.key", "rsa-1024.key", "the RSA key has 1024 bits"),
        ("secp256k1.pem", "secp256k1.key", "secp256k1.key", "secp256k1"),
        ("v1.pem", "encrypted-pkcs8.key", "encrypted-pkcs8.key", "the key is encrypted"),
        ("v1.pem", "encrypted-sec1.key", "encrypted-sec1.key", "the key is encrypted"),
    ] {
        let output = run(&["check", "--listen", TLS, "--cert", &file(cert), "--key", &file(key)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.lines().count() == 1 && said.contains(&file(culprit)) && said.contains(problem),
            "{said}"
        );
    }
}

#[cfg(feature = "web")]
#[test]
fn plain_http_on_a_tls_port_is_answered_in_http() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "localhost"), "https://127.0.0.1:0", &[]);
    let address = server.url().split_once("://").expect("a URL").1.to_owned();
    for request in
        ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n", "POST / HTTP/1.1\r\n\r\n"]
    {
        for piece in [request.len(), 1, 3] {
            let mut client = TcpStream::connect(&address).expect("it listens");
            client.set_read_timeout(Some(PATIENCE)).expect("not zero");
            client.set_nodelay(true).expect("it is a socket");
            for bytes in request.as_bytes().chunks(piece) {
                // Once it is known what it is, nobody waits for the rest.
                if client.write_all(bytes).is_err() {
                    break;
                }
            }
            let mut heard = Vec::new();
            let ended = client.read_to_end(&mut heard);
            let heard = String::from_utf8_lossy(&heard).into_owned();
            if piece < request.len() && heard.is_empty() && ended.is_err() {
                continue; // what came behind the answer has reset the connection
            }
            let (head, body) = heard.split_once("\r\n\r\n").expect("an answer");
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{heard}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{heard}");
            assert!(body.contains("TLS") && body.ends_with('\n'), "{heard}");
        }
    }
    echo_over_https(&server, &ours);
    server.logs("the peer speaks plain HTTP");
    server.stop();
}

/// A client with TLS is served as before.
#[cfg(feature = "web")]
fn echo_over_https(server: &Server, authority: &Authority) {
    let mut alice = call(server, &authority.client(None));
    alice.write_all(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi").expect("it is taken");
    assert!(to_the_end(&mut alice).ends_with(b"\r\n\r\nhi"));
}

#[cfg(feature = "load")]
#[test]
fn bench_says_what_its_handshakes_took_and_whom_it_believes() {
    let ours = Authority::new();
    let server = ours.serve(&ours.signs("server", "127.0.0.1"), TLS, &[]);
    let (ca, report) = (ours.path("ca.pem"), ours.path("report.json"));
    let bench = |more: &[&str]| {
        let mut command = switchboard();
        command.args(["bench", server.url(), "--connections", "4", "--warmup", "off", "--no-self-test"]);
        command.args(["--quiet", "--json"]).arg(&report).args(more);
        if !more.contains(&"--duration") {
            command.args(["--duration", "100ms"]);
        }
        let output = command.output().expect("it can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let read = || -> switchboard::load::report::Report {
        serde_json::from_str(&fs::read_to_string(&report).expect("it was written")).expect("a report")
    };
    let ca = ca.display().to_string();
    assert_eq!(bench(&["--ca", &ca]).0, Some(0));
    let handshakes = read().latency.handshake.expect("they were measured");
    assert_eq!((handshakes.count, read().resumed, read().failures.total()), (4, 0, 0));
    // Until each has had time for a second handshake, however busy the machine is.
    let is_long_enough = ["300ms", "1s", "5s", "30s"].iter().any(|duration| {
        assert_eq!(bench(&["--ca", &ca, "--churn", "--duration", duration]).0, Some(0));
        read().latency.handshake.is_some_and(|handshakes| handshakes.count > 8)
    });
    assert!(is_long_enough && read().resumed > 0, "{:#?}", read().latency.handshake);
    assert_eq!(read().failures.total(), 0, "{:#?}", read().failures);
    let handshakes = read().latency.handshake.expect("they were measured");
    assert!(handshakes.count - read().resumed <= 4, "each connection does one whole handshake, and no more");
    let (code, said) = bench(&["--insecure", "--churn", "--no-resumption", "--duration", "1s"]);
    assert_eq!((code, read().resumed), (Some(0), 0), "{said}");
    let (code, said) = bench(&[]);
    assert!(code == Some(2) && said.contains("which servers to trust? Give --ca FILE"), "{said}");
    let (code, said) = bench(&["--ca", &ca, "--server-name", "example.com"]);
    assert!(code == Some(1) && said.contains("cannot connect"), "{said}");
    let summary = server.stop().summary();
    assert_eq!(summary.of("truncated"), 0, "{summary:?}");
}

/// Each ends the run at once, with what is wrong and what to do about it.
#[cfg(feature = "load")]
#[test]
fn bench_says_why_it_and_a_server_come_to_no_session() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let bench = |url: &str, more: &[&str]| {
        let mut command = switchboard();
        command.args(["bench", url, "--duration", "60s", "--no-self-test", "--quiet"]).args(more);
        let output = command.output().expect("it can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let [ca, another] = [&ours, &theirs].map(|it| it.path("ca.pem").display().to_string());
    let right = ours.serve(&ours.signs("server", "127.0.0.1"), TLS, &[]);
    let expired = ours.serve(&ours.signs_until("expired", "127.0.0.1", 2021), TLS, &[]);
    let choosy = ours.serve(&ours.signs("choosy", "127.0.0.1"), TLS, &["--client-ca", &ca]);
    let plain = Server::echo();
    let as_tls = plain.url().replace("tcp", "tls");
    let trusting = ["--ca", &ca];
    for (url, options, culprit, remedy) in [
        (right.url(), &["--ca", &another][..], "no authority of the --ca file", "give the one that has"),
        (right.url(), &["--ca", &ca, "--server-name", "example.com"], "another name", "--server-name"),
        (expired.url(), &trusting, "has expired", "needs a new one"),
        (choosy.url(), &trusting, "a client certificate", "--client-cert and --client-key"),
        (&as_tls, &trusting, "does not speak TLS", "tcp://"),
    ] {
        let (code, said) = bench(url, options);
        assert!(code == Some(1) && said.contains(culprit) && said.contains(remedy), "{options:?}: {said}");
        assert!(said.contains(url) && said.lines().count() == 1, "{said}");
    }
    let (code, said) = bench(&right.url().replace("tls", "tcp"), &[]);
    assert!(code == Some(1) && said.contains("answers in TLS: take tls://"), "{said}");
}

#[test]
fn the_example_of_one_line_echoes() {
    let ours = Authority::new();
    let signed = ours.signs("server", "localhost");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_switchboard"));
    let example = program.parent().expect("a directory").join("examples/14_tls");
    let mut command = Command::new(example);
    command.arg(TLS).arg(&signed.cert).arg(&signed.key);
    let mut server = Server::start_command(&mut command, 1);
    server.read_log();
    echo(&mut call(&server, &ours.client(None)), "hello").expect("it is there");
    server.stop();
}
