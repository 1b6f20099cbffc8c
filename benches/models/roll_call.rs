//! Who is served at all? All connect, one after the other, and stay; each sends a word and waits for its echo.
//!
//! No rates and no times here: this only decides whether it makes sense to ask for them.

use super::Outcome;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// On a loopback an answer takes some 50 µs. Who hasn't one after this long has to wait until somebody else leaves.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many were served before the first who wasn't. A server that is full stays full as long as nobody leaves, so
/// there is no need to ask the others.
pub(crate) fn served(address: &str, connections: usize) -> Outcome<usize> {
    let address: SocketAddr = address.parse().map_err(|_| format!("`{address}` is no address"))?;
    let callers: Vec<TcpStream> = (0..connections).map_while(|_| call(address)).collect();
    Ok(callers.len())
}

/// None: nobody answered, or with something else.
fn call(address: SocketAddr) -> Option<TcpStream> {
    const WORD: &[u8] = b"here";
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(WORD).ok()?;
    let mut answer = [0; WORD.len()];
    stream.read_exact(&mut answer).ok()?;
    (answer == WORD).then_some(stream)
}
