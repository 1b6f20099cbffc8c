//! Somebody else's client against the real server: Python's `websockets`, which was written by others, from the same RFC.
#![cfg(all(feature = "cli", feature = "tls", feature = "web"))]

use std::io::{self, Write};
use std::process::Command;

use crate::support::*;

/// Echoes of every kind; what is not as it should be is an assertion's error, and an exit code.
const ECHOES: &str = r#"
import asyncio, ssl, sys, websockets, websockets.exceptions

# Another status than 101: versions from 14.0 on raise InvalidStatus, versions before that InvalidStatusCode. Names of
# exceptions that a version does not raise any more fail on access, or are gone.
REFUSED = tuple(
    getattr(websockets.exceptions, name)
    for name in ("InvalidStatus", "InvalidStatusCode")
    if hasattr(websockets.exceptions, name)
)

async def talk(url):
    context = None
    if url.startswith("wss://"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # It offers permessage-deflate, as all of them do.
    async with websockets.connect(url, ssl=context, max_size=None) as socket:
        for message in ["hello", "", "grüß dich \U0001f642", b"\x00\xff\xfe", b"", "x" * 125, "x" * 126, "x" * 65536, b"y" * 300000]:
            await socket.send(message)
            assert await socket.recv() == message, f"{len(message)} bytes come back otherwise"
        async def pieces():
            for piece in ["one ", "two ", "", "three"]:
                yield piece
        await socket.send(pieces())
        assert await socket.recv() == "one two three"
        await asyncio.wait_for(await socket.ping(b"are you there?"), 10)
        for _ in range(200):
            await socket.send("many")
        for _ in range(200):
            assert await socket.recv() == "many"
        await socket.close(code=4000, reason="enough")
        assert socket.close_code == 4000, socket.close_code
    # What is too long is told so.
    async with websockets.connect(url, ssl=context, max_size=None) as socket:
        await socket.send("x" * 2000000)
        try:
            await socket.recv()
            assert False, "it is echoed"
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
    # Pages of others are not let in.
    try:
        async with websockets.connect(url, ssl=context, origin="https://evil.example"):
            assert False, "it is let in"
    except REFUSED as refused:
        # The answer was an attribute of the error before it had a response.
        status = refused.response.status_code if hasattr(refused, "response") else refused.status_code
        assert status == 403, refused

for url in sys.argv[1:]:
    asyncio.run(asyncio.wait_for(talk(url), 60))
    print("fine:", url)
"#;

#[test]
fn pythons_websockets_is_served() {
    // The distribution's own, too, where another one comes first: its packages are for that one.
    let has_it = |python: &&str| {
        // An empty folder of that name can be imported as well.
        let asked = Command::new(python).args(["-c", "from websockets import connect"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_it) else {
        assert!(std::env::var_os("CI").is_none(), "there is no Python with websockets");
        // Past the test's own capture, which would show it only for one that fails.
        let _ = writeln!(
            io::stderr(),
            "left out, because Python has no websockets: its client; apt-get install python3-websockets, and cargo test --test black_box other_clients::"
        );
        return;
    };
    let server = Server::start(&[
        "serve",
        "echo",
        "--listen",
        "ws://127.0.0.1:0",
        "--listen",
        "wss://127.0.0.1:0",
        "--listen",
        "http://127.0.0.1:0",
        "--self-signed",
        "--message-bytes-max",
        "1MiB",
    ]);
    let urls: Vec<String> = server.urls().iter().map(|url| url.replace("http://", "ws://")).collect();
    let output = Command::new(python)
        .args(["-W", "ignore", "-c", ECHOES])
        .args(urls)
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.matches("fine: ").count() == 3, "{said}\n{complaint}");
    server.stop();
}
