//! Rung 1: **a socket**.
//!
//! A TCP server is a handful of system calls: `bind` claims an address, `listen` has the kernel collect
//! callers for it (`TcpListener::bind` is both), `accept` takes the next caller off that backlog, `recv`
//! and `send` move bytes (`read` and `write` in Rust). Here are those calls, once through, with every way that
//! they can fail. The rungs up to 6 do the same work; they differ only in how they wait.
//!
//! ```sh
//! cargo run --example 01_socket
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! ```
//!
//! (`-N` has the `nc` of Debian, Ubuntu and the BSDs send its FIN when its input ends.)
//!
//! **The limit**: `read` waits, and while it waits for this client, no other is served. Run a plain
//! `nc 127.0.0.1 8080`, type nothing, and try the line above in another terminal: the kernel connects it
//! and keeps its bytes, and there it hangs until the silent one leaves. Rung 2 gives every client
//! a thread that waits for it.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The most that is read in one call. Any size works: TCP is a stream and knows no messages.
const READ_BYTES_MAX: usize = 16 * 1024;

/// How long to leave `accept` alone when the system has no room for one more socket.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 01_socket [ADDRESS], as in 01_socket 127.0.0.1:8080");
            return ExitCode::from(2);
        }
    };
    match listen(address) {
        Ok(listener) => serve(&listener),
        Err(error) => {
            eprintln!(
                "cannot listen on {address}: {error}; give another HOST:PORT (port 0: any that is free)"
            );
            ExitCode::FAILURE
        }
    }
}

/// Claims the address, and then says so: a client may connect from that line on.
fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}

/// One client after another, for ever.
fn serve(listener: &TcpListener) -> ! {
    loop {
        let (client, peer) = accept(listener);
        if let Err(error) = echo(client) {
            eprintln!("lost {peer}: {error}");
        }
    }
}

/// Takes the next caller off the backlog, however long that takes.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut complained = false;
    loop {
        match listener.accept() {
            Ok(caller) => return caller,
            // This one hung up while it was waiting. (std itself calls again after a signal's EINTR.)
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Mostly EMFILE: no descriptor is free. The caller stays in the backlog, so calling again at
            // once fails again at once: a loop at full speed that gets nowhere. Wait, and say so once.
            Err(error) => {
                if !complained {
                    eprintln!("cannot accept: {error}; trying again every {ACCEPT_RETRY:?}");
                    complained = true;
                }
                thread::sleep(ACCEPT_RETRY);
            }
        }
    }
}

/// Gives one client its bytes back until it has sent its FIN, or is lost.
///
/// An error here is that client's end, and nothing more. So is a write to a client that is gone: in C it
/// would raise SIGPIPE and end the process, but Rust programs start with that signal ignored.
fn echo(mut client: TcpStream) -> io::Result<()> {
    let mut chunk = [0; READ_BYTES_MAX];
    loop {
        match client.read(&mut chunk) {
            // The peer's FIN: it will send no more. All that it sent has gone back, so hang up, too.
            Ok(0) => return Ok(()),
            // `write_all` and not `write`, which may take only a part and leave the rest to us.
            Ok(count) => client.write_all(&chunk[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
