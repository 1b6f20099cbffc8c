//! How late the relay's ticks are, alone and beside a chat that is flooded, on one and the same loop.
//!
//! One server serves both, on a core of its own: `--clients` players over UDP who move and are told of the world in each of
//! 30 ticks a second, and a room of `--members` in which a number of messages a second go to all. On the other core are the
//! players, and `switchboard bench --fan-out`. What is shown is what the server says of itself in each tick: how long after
//! the moment at which it was due it began.
//!
//! It doesn't judge: no figure makes it fail. It fails where something can't be started, or nothing ticks.
//!
//! ```text
//! cargo bench --bench relay                      200 players; no chat, and rooms from quiet to flooded
//! cargo bench --bench relay -- --quick           does it run at all? (what CI asks)
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");

/// What happens in the chat: members, senders, messages a second in all.
const ROOMS: &[(u32, u32, u32)] =
    &[(0, 0, 0), (200, 20, 200), (200, 20, 2000), (1000, 20, 200), (1000, 20, 1000)];

type Outcome<T> = Result<T, String>;

/// A child that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn pin(pid: i32, cpu: usize) {
    let mut cpus = CpuSet::new();
    // Where there is one core alone, both have it; the figures say so themselves.
    let _ = cpus.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(pid), &cpus));
}

/// The server, and where it listens: for datagrams, and for WebSockets.
fn start(folder: &std::path::Path) -> Outcome<(Running, String, String)> {
    let config = folder.join("relay-bench.toml");
    let text = "log-level = \"error\"\n\
                [[listener]]\nurl = \"udp://127.0.0.1:0\"\nservice = \"relay\"\ndatagrams-per-ip = \"off\"\n\
                [[listener]]\nurl = \"ws://127.0.0.1:0\"\nservice = \"chat\"\nmessages-per-member = \"1000000\"\n";
    std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    let child = Command::new(PROGRAM)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{PROGRAM}: {error}"))?;
    let mut running = Running(child);
    pin(running.0.id() as i32, 0);
    let mut lines = BufReader::new(running.0.stdout.take().expect("it is piped")).lines();
    let mut next = || match lines.next() {
        Some(Ok(line)) => Ok(line.trim_start_matches("listening on ").to_owned()),
        _ => Err(String::from("the server did not start")),
    };
    let (datagrams, chat) = (next()?, next()?);
    Ok((running, datagrams.trim_start_matches("udp://").to_owned(), chat))
}

fn message(kind: u8, token: [u8; 8], words: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![b'S', b'B', 1, kind];
    bytes.extend(token);
    words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    bytes
}

/// Plays for so long; how late each tick was, in microseconds.
fn play(address: &str, clients: u32, duration: Duration) -> Outcome<Vec<u32>> {
    let broken = |error: std::io::Error| format!("a player: {error}");
    let mut players = Vec::new();
    for number in 0..clients {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(broken)?;
        socket.connect(address).map_err(broken)?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(broken)?;
        socket.send(&message(1, [0; 8], [number, 0, 0])).map_err(broken)?;
        let mut welcome = [0; 24];
        socket.recv(&mut welcome).map_err(broken)?;
        socket.set_nonblocking(true).map_err(broken)?;
        players.push((socket, <[u8; 8]>::try_from(&welcome[4..12]).expect("eight bytes"), 0));
    }
    let (began, mut late) = (Instant::now(), BTreeMap::new());
    let mut bytes = [0; 2000];
    for step in 1u32.. {
        if began.elapsed() > duration {
            break;
        }
        for (number, (socket, token, seen)) in players.iter_mut().enumerate() {
            while let Ok(28..) = socket.recv(&mut bytes) {
                let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
                *seen = word(24);
                late.insert(word(8), word(20));
            }
            // All over the world, and not twice at one place.
            let x = (number as u32 * 331 + step * 97) % 65_536;
            let y = (number as u32 * 5_003 + step * 31) % 65_536;
            let _ = socket.send(&message(3, *token, [step, x << 16 | y, *seen]));
        }
        thread::sleep((began + step * Duration::from_millis(20)).saturating_duration_since(Instant::now()));
    }
    // The first ones are of a world that fills.
    let late: Vec<u32> = late.into_values().skip(10).collect();
    match late.len() {
        0..5 => Err("the world does not tick".into()),
        _ => Ok(late),
    }
}

/// The room, and what it came to: deliveries a second.
fn flood(chat: &str, (members, senders, rate): (u32, u32, u32), duration: Duration) -> Outcome<f64> {
    let output = Command::new(PROGRAM)
        .args(["bench", chat, "--fan-out", "lobby", "--pin", "1", "--json", "-", "--warmup", "500ms"])
        .args(["--connections", &members.to_string(), "--senders", &senders.to_string()])
        .args(["--rate", &rate.to_string(), "--duration", &format!("{}ms", duration.as_millis())])
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("{PROGRAM}: {error}"))?;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("the room has no report: {error}"))?;
    Ok(report["achieved_per_s"].as_f64().unwrap_or_default())
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    if let Err(problem) = run(quick) {
        eprintln!("relay: {problem}");
        std::process::exit(1);
    }
}

fn run(quick: bool) -> Outcome<()> {
    let (clients, duration, rooms) = match quick {
        true => (20, Duration::from_millis(800), &ROOMS[..2]),
        false => (200, Duration::from_secs(10), ROOMS),
    };
    pin(0, 1);
    println!(
        "how late ticks are, 30 a second, {clients} players over UDP, beside a room of a chat on the same loop\n"
    );
    println!(
        "{:>8} {:>10} {:>13} {:>6}  {:>8} {:>8} {:>8}",
        "members", "said/s", "deliveries/s", "ticks", "p50 ms", "p99 ms", "max ms"
    );
    for &room in rooms {
        let (_server, datagrams, chat) = start(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        let flooding = (room.0 > 0).then(|| {
            let duration = duration + Duration::from_secs(1);
            thread::spawn(move || flood(&chat, room, duration))
        });
        if flooding.is_some() {
            thread::sleep(Duration::from_millis(if quick { 300 } else { 1500 })); // it fills, and warms up
        }
        let mut late = play(&datagrams, clients, duration)?;
        let delivered = flooding.map_or(Ok(0.0), |it| it.join().expect("it does not panic"))?;
        late.sort_unstable();
        let at = |part: f64| f64::from(late[((late.len() - 1) as f64 * part) as usize]) / 1000.0;
        println!(
            "{:>8} {:>10} {:>13.0} {:>6}  {:>8.2} {:>8.2} {:>8.2}",
            room.0,
            room.2,
            delivered,
            late.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    Ok(())
}
