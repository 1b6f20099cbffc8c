//! What the guard costs each accept: one address judged, by lists of any length.
//!
//! ```text
//! cargo bench --bench guard
//! cargo bench --bench guard -- --test             does it run at all?
//! ```

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use switchboard::guard::{Guard, IpNet};

/// Addresses judged turn about: enough that the cache does not know the way.
const ADDRESSES: u64 = 4096;

/// Spreads numbers over all bits, the same ones each time (splitmix64).
fn spread(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn v4(number: u64) -> IpAddr {
    Ipv4Addr::from(spread(number) as u32).into()
}

fn v6(number: u64) -> IpAddr {
    Ipv6Addr::from(u128::from(spread(number)) << 64 | u128::from(number)).into()
}

fn judge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge");
    for entries in [0, 100, 100_000] {
        // Half of them of each family; of the addresses below, some are named and some are not.
        let deny = (0..entries / 2).flat_map(|number| {
            let length = 16 + (number % 17) as u8;
            let networks = [IpNet::new(v4(number), length), IpNet::new(v6(number), 2 * length)];
            networks.map(|network| network.expect("the length is that of its family"))
        });
        let guard = Guard::new(Vec::new(), deny.collect());
        for (family, address) in [("v4", v4 as fn(u64) -> IpAddr), ("v6", v6)] {
            let addresses: Vec<IpAddr> = (0..ADDRESSES).map(|number| address(number * 16)).collect();
            let mut turn = addresses.iter().cycle();
            group.bench_function(BenchmarkId::new(family, entries), |bencher| {
                bencher.iter(|| guard.verdict(black_box(*turn.next().expect("it is a cycle"))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
