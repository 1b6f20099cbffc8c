//! Rung 2: **a thread for each client**.
//!
//! New here: `serve` hands each client to a thread of its own and goes straight back to `accept`. Nothing
//! else changes. Every thread waits for one client in plain top-down code, and the kernel's scheduler
//! decides whose turn it is. For many a server that is enough, and nothing is simpler: look twice
//! before climbing on.
//!
//! ```sh
//! cargo run --example 02_threads
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # served, even while others are silent
//! ```
//!
//! **The limit** is not speed: a message wakes a thread here, and a loop on the other rungs, for about the
//! same price. It is what a thread costs while it does nothing. 1,000 silent clients of this program took
//! 25 MiB in user space (a stack for each, with the chunk below on it), 20 MiB in the kernel (another stack,
//! and page tables) and 3 GiB of address space; rung 6 needs 0.1 MiB for as many. And it is the callers that
//! decide how many threads there are. Threads also meet: let one client's message reach all the
//! others, as in a chat, and the sockets need locks. Rung 3 waits for all clients in one place.

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
            eprintln!("usage: 02_threads [ADDRESS], as in 02_threads 127.0.0.1:8080");
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

/// Every client to a thread of its own, for ever.
fn serve(listener: &TcpListener) -> ! {
    loop {
        let (client, peer) = accept(listener);
        // Not `thread::spawn`, which panics when the system refuses one more thread, and the server with
        // it. Here the refused closure is dropped, and with it the client that it owns: it is hung up on.
        let spawned = thread::Builder::new().spawn(move || {
            if let Err(error) = echo(client) {
                eprintln!("lost {peer}: {error}");
            }
        });
        if let Err(error) = spawned {
            eprintln!("refused {peer}: no thread for it: {error}");
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
