//! What decoding and encoding cost, in bytes per second: slices in, slices out, no socket.
//!
//! Each protocol is given what one read of the server brings: as many messages as fit in 64 KiB, back to
//! back. Raw has no messages; a whole read is one, and nothing in it is looked at, so its rate is that of a
//! function call.
//!
//! ```text
//! cargo bench --bench protocol
//! cargo bench --bench protocol -- --quick lines      some of it, roughly
//! cargo bench --bench protocol -- --test             does it run at all?
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switchboard::Message;
use switchboard::protocol::{Framing, Protocol, Step};

/// What the server reads at once.
const READ_BYTES: usize = 64 * 1024;

/// The longest message that is let in; more than any here.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

const PROTOCOLS: [(&str, Framing); 3] =
    [("raw", Framing::Raw), ("lines", Framing::Lines), ("prefixed", Framing::Prefixed)];

const SIZES: [(&str, usize); 4] = [("16B", 16), ("64B", 64), ("1KiB", 1024), ("64KiB", READ_BYTES)];

/// How many messages of `size` bytes a read brings.
fn messages_per_read(framing: Framing, size: usize) -> usize {
    match framing {
        Framing::Raw => 1,
        _ => (READ_BYTES / size).max(1),
    }
}

/// Text, as services mostly see it: for lines the check for valid UTF-8 is part of the price.
fn payload(size: usize) -> String {
    "abcdefghijklmnop".chars().cycle().take(size).collect()
}

/// A read's bytes.
fn encoded(framing: Framing, size: usize) -> Vec<u8> {
    let mut protocol = Protocol::new(framing, MESSAGE_BYTES_MAX);
    let (payload, mut bytes) = (payload(size), Vec::new());
    for _ in 0..messages_per_read(framing, size) {
        protocol.encode(Message::Text(&payload), &mut bytes);
    }
    bytes
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, framing) in PROTOCOLS {
        for (size_name, size) in SIZES {
            let bytes = encoded(framing, size);
            let Protocol::Plain(mut plain) = Protocol::new(framing, MESSAGE_BYTES_MAX) else { continue };
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new(name, size_name), |bencher| {
                bencher.iter(|| {
                    let mut waiting = black_box(&bytes[..]);
                    while let Step::Message { message, consumed } =
                        plain.decode(waiting).expect("what was encoded is right")
                    {
                        black_box(message);
                        waiting = &waiting[consumed..];
                    }
                    assert!(waiting.is_empty(), "a message was left over");
                });
            });
        }
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, framing) in PROTOCOLS {
        for (size_name, size) in SIZES {
            let payload = payload(size);
            let mut protocol = Protocol::new(framing, MESSAGE_BYTES_MAX);
            let mut sink = encoded(framing, size); // so that it has its full size from the beginning
            group.throughput(Throughput::Bytes(sink.len() as u64));
            group.bench_function(BenchmarkId::new(name, size_name), |bencher| {
                bencher.iter(|| {
                    sink.clear();
                    for _ in 0..messages_per_read(framing, size) {
                        protocol.encode(Message::Text(black_box(&payload)), &mut sink);
                    }
                    black_box(&sink);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
