//! Rung 14: **TLS**.
//!
//! New here: one line. `tls(...)` gives the server a certificate, `tls://` listens with it, and the service of rung 9
//! is what it was: bytes come out of the transport decrypted, and go into it to be encrypted. Nothing blocks: the
//! handshake, too, is a few readable and writable events (`src/transport/tls.rs`).
//!
//! ```sh
//! cargo run --example 14_tls                     # makes a certificate of its own, and prints its fingerprint
//! echo hello | openssl s_client -connect 127.0.0.1:8443 -quiet
//!
//! cargo run --example 14_tls tls://127.0.0.1:8443 cert.pem key.pem
//! ```
//!
//! What TLS adds besides secrecy: its end is a message of its own (close_notify), so a connection that was cut off
//! differs from one that is over. Kill the client in the middle of a line, and look at the log of `switchboard
//! serve` with `--log-level debug`.
//!
//! **The limit**: no authority has signed this certificate. `openssl s_client` above accepts it all the same; a browser
//! warns. And what travels is still lines and bytes. Rung 15 speaks HTTP.

use std::path::Path;
use std::process::ExitCode;

use switchboard::transport::tls::{SelfSigned, ServerTls};
use switchboard::{Message, Peer, Server, Service, Switchboard};

struct Echo;

impl Service for Echo {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        board.send(from, message);
    }
}

/// From these files; without them, one that is made here.
fn certificate(files: &[String]) -> Result<ServerTls, String> {
    if let [cert, key] = files {
        return ServerTls::from_files(Path::new(cert), Path::new(key), None);
    }
    let made = SelfSigned::new(vec!["localhost".into(), "127.0.0.1".into()])?;
    eprintln!("SHA-256 {}", made.fingerprint());
    ServerTls::self_signed(&made, None)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, files) = match arguments.split_first() {
        None => ("tls://127.0.0.1:8443", &[][..]),
        Some((url, files)) => (url.as_str(), files),
    };
    if url.starts_with('-') || !matches!(files.len(), 0 | 2) {
        eprintln!(
            "usage: 14_tls [URL [CERT KEY]]: a certificate needs its key, as in 14_tls tls://127.0.0.1:8443 cert.pem key.pem"
        );
        return ExitCode::from(2);
    }
    let serve = |tls| Server::new(Echo).tls(tls).listen(url)?.run();
    if let Err(error) = certificate(files).map_err(std::io::Error::other).and_then(serve) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
