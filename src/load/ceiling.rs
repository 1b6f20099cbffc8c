//! What one generator thread could do at most, from a self-test: half a second against an echo of our own.
//!
//! The echo shares the machine with us, so its rate says little. What counts is the CPU time that a message
//! costs *us*. It gives the rate at which one core is full, whatever the server can do.
//!
//! Invariant: it ends within a few seconds, and its failure is no failure of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::plan::{Plan, WarmUp};
use super::run::{Circumstances, run};
use super::script::Expected;
use super::witness::ServerSource;
use crate::endpoint::Endpoint;
use crate::guard::Guard;
use crate::protocol::Framing;
use crate::server::Server;
use crate::service::echo::Echo;

/// Enough that a turn of the loop serves several.
const CONNECTIONS_MAX: usize = 16;

/// Messages per second and thread; `None` where it could not be found out.
pub fn ceiling(plan: &Plan, interrupted: &AtomicBool) -> Option<f64> {
    let any = "127.0.0.1:0".parse().expect("an address");
    let place = match plan.target {
        Endpoint::Udp(_) => Endpoint::Udp(any),
        _ => Endpoint::Tcp(any, plan.target.framing()),
    };
    let server = Server::new(Echo)
        .guard(Guard::default())
        .message_bytes_max(1 << 30)
        .listen(&place.to_string())
        .ok()?;
    let target = server.endpoints().into_iter().next()?;
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let echo = thread::Builder::new().name("self-test".into()).spawn(move || {
        let Ok(mut reactor) = server.into_reactor() else { return };
        while !told.load(Ordering::Relaxed) && reactor.turn(Some(Duration::from_millis(20))).is_ok() {}
    });

    let small = Plan {
        target,
        connections: plan.connections.min(CONNECTIONS_MAX),
        idle: 0,
        churn: false,
        rate: None,
        expected: match plan.expected {
            Expected::Echo => Expected::Echo,
            Expected::Anything if plan.target.framing() != Framing::Raw => Expected::Anything,
            _ => Expected::AnyOfThatLength,
        },
        duration: Duration::from_millis(400),
        warm_up: WarmUp::For(Duration::from_millis(100)),
        ramp: Duration::ZERO,
        timeout: Duration::from_secs(1),
        threads: 1,
        sources: Vec::new(),
        ..plan.clone()
    };
    let circumstances = Circumstances { server: ServerSource::None, ..Circumstances::default() };
    let outcome = run(&small, &circumstances, interrupted, &mut |_| {});
    over.store(true, Ordering::Relaxed);
    if let Ok(echo) = echo {
        let _ = echo.join();
    }
    let cost_ns = outcome.report.generator.cpu_ns_per_message;
    (outcome.problem.is_none() && cost_ns > 0.0).then(|| 1e9 / cost_ns)
}
