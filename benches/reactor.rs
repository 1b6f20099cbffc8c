//! What the loop costs without the kernel: turns over the in-memory wire, timers, buffers.
//!
//! The wire's own part, two copies between a ring and a slice, is in the figures; saying something on it and
//! hearing the answer are not. `benches/floor.rs` has the same with sockets.
//!
//! ```text
//! cargo bench --bench reactor
//! cargo bench --bench reactor -- --quick turn      some of it, roughly
//! cargo bench --bench reactor -- --test            does it run at all?
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mio::Token;
use switchboard::reactor::{
    BoardOf, Buffer, Handler, Limits, Moment, Peer, Reactor, Readiness, Spares, Timer, Transport,
};
use switchboard::transport::wire::{Remote, Wire, wire};

const MESSAGE_BYTES: usize = 64;

/// Messages that are laid out on the wires at once, so that the clock is read once for several turns. More
/// of them would fall out of the cache, and that is not what is measured.
const MESSAGES_AT_ONCE: usize = 256;

/// An echo in bytes, that sets each timer again when it fires, if there is a period.
struct Parrot {
    period: Option<Duration>,
}

impl Handler for Parrot {
    type Transport = Wire;
    type State = ();

    fn admit(
        &mut self,
        _listener: usize,
        _transport: &mut Wire,
        _address: &<Wire as Transport>::Address,
        _now: Moment,
    ) -> Option<()> {
        None // nobody listens here
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        board.send(from, inbox.bytes());
        inbox.consume(inbox.len());
    }

    fn on_timer(&mut self, board: &mut BoardOf<Self>, Timer { key, .. }: Timer) {
        if let Some(period) = self.period {
            board.set_timer(period, key);
        }
    }
}

fn reactor(period: Option<Duration>) -> Reactor<Parrot> {
    Reactor::new(Parrot { period }, Limits::default()).expect("a poll")
}

/// Connections that are open, each read of which brings one message though more lie on the wire: the short
/// read passes for the last one, until the next turn's event says otherwise.
fn connections(reactor: &mut Reactor<Parrot>, count: usize) -> Vec<(Peer, Remote)> {
    let lines: Vec<_> = (0..count)
        .map(|_| {
            let (near, far) = wire();
            far.promise_short_reads(true);
            far.reads_return([MESSAGE_BYTES]);
            (reactor.board().connect(near, ()).expect("room for it"), far)
        })
        .collect();
    // Everyone is established, and found to have nothing to say yet.
    let ready: Vec<_> = lines.iter().map(|(peer, far)| (Token::from(*peer), far.take_edge())).collect();
    for _ in 0..3 {
        reactor.turn_with(Moment::default(), &ready);
    }
    lines
}

/// How long `turns` turns take in which everyone in `ready` has one message.
fn time_turns(reactor: &mut Reactor<Parrot>, ready: &[(Peer, Remote)], turns: u64) -> Duration {
    let events: Vec<_> = ready.iter().map(|(peer, _)| (Token::from(*peer), Readiness::READABLE)).collect();
    let at_once = (MESSAGES_AT_ONCE / ready.len()).max(1);
    let (mut left, mut taken) = (turns as usize, Duration::ZERO);
    while left > 0 {
        let now = left.min(at_once);
        for (_, far) in ready {
            for _ in 0..now {
                far.say(&[7; MESSAGE_BYTES]);
            }
        }
        let began = Instant::now();
        for _ in 0..now {
            black_box(reactor.turn_with(Moment::default(), black_box(&events)));
        }
        taken += began.elapsed();
        for (_, far) in ready {
            assert_eq!(far.hear_count(), now * MESSAGE_BYTES, "an echo a turn");
        }
        left -= now;
    }
    taken
}

fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    for count in [1, 64, 1000] {
        let mut reactor = reactor(None);
        let lines = connections(&mut reactor, count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("ready", count), |bencher| {
            bencher.iter_custom(|turns| time_turns(&mut reactor, &lines, turns));
        });
    }
    // What the others cost who are connected and say nothing: their deadlines wait in the heap.
    for count in [100, 1000, 10_000] {
        let mut reactor = reactor(None);
        let lines = connections(&mut reactor, count);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one_ready_of", count), |bencher| {
            bencher.iter_custom(|turns| time_turns(&mut reactor, &lines[..1], turns));
        });
    }
    group.finish();
}

fn timers(criterion: &mut Criterion) {
    /// What fires in one turn.
    const FIRED: u32 = 100;
    const APART: Duration = Duration::from_micros(1);

    let mut group = criterion.benchmark_group("timers");
    group.throughput(Throughput::Elements(u64::from(FIRED)));
    for count in [100, 1000, 10_000, 100_000, 1_000_000] {
        // They are set evenly over the period, and each goes to the far end when it has fired.
        let mut reactor = reactor(Some(count * APART));
        for key in 0..count {
            reactor.board().set_timer((key + 1) * APART, u64::from(key));
        }
        let mut now = Moment::default();
        group.bench_function(BenchmarkId::new("fire_and_set", count), |bencher| {
            bencher.iter(|| {
                now = now.after(FIRED * APART);
                black_box(reactor.turn_with(now, &[]));
            });
        });
    }
    // From none to `count`, the last first, and back to none: the heap at its worst.
    for count in [100_u32, 1000, 10_000, 100_000, 1_000_000] {
        let mut reactor = reactor(None);
        let turns = count.div_ceil(Limits::default().timers_per_turn as u32);
        let mut now = Moment::default();
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(BenchmarkId::new("set_all_and_fire_all", count), |bencher| {
            bencher.iter(|| {
                for key in (0..count).rev() {
                    reactor.board().set_timer(key * APART, u64::from(key));
                }
                now = now.after(count * APART);
                for _ in 0..turns {
                    black_box(reactor.turn_with(now, &[]));
                }
            });
        });
    }
    group.finish();
}

fn buffers(criterion: &mut Criterion) {
    /// As a reply is appended.
    const PIECE: [u8; MESSAGE_BYTES] = [7; MESSAGE_BYTES];

    let mut group = criterion.benchmark_group("buffer");
    for size in [100, 1000, 10_000, 100_000, 1_000_000] {
        let (mut buffer, mut spares) = (Buffer::default(), Spares::default());
        let bytes = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        // The way of one large message: beyond 64 KiB the block is not kept for reuse.
        group.bench_function(BenchmarkId::new("append_consume_recycle", size), |bencher| {
            bencher.iter(|| {
                buffer.append(black_box(&bytes), &mut spares);
                black_box(buffer.bytes());
                buffer.consume(size);
                buffer.recycle(&mut spares);
            });
        });
        // The way of many small ones, that gather and leave one by one.
        let pieces = size.div_ceil(PIECE.len());
        group.throughput(Throughput::Elements(pieces as u64));
        group.bench_function(BenchmarkId::new("pieces_of_64B", size), |bencher| {
            bencher.iter(|| {
                for _ in 0..pieces {
                    buffer.append(black_box(&PIECE), &mut spares);
                }
                for _ in 0..pieces {
                    black_box(&buffer.bytes()[..PIECE.len()]);
                    buffer.consume(PIECE.len());
                }
                buffer.recycle(&mut spares);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, turn, timers, buffers);
criterion_main!(benches);
