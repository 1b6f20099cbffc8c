//! What a run does to a server: plain data, checked before anything is opened.
//!
//! Invariant: a plan that [`Plan::check`] lets pass can be carried out, as far as can be known without
//! asking the server.

use std::net::IpAddr;
use std::time::Duration;

#[cfg(feature = "web")]
use super::http::Asked;
use super::script::{Expected, Said};
use crate::endpoint::Endpoint;
use crate::transport::stream::check_unix_path;
use crate::transport::tls::ClientTls;

/// One run against one target.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub target: Endpoint,
    /// Connections that talk.
    pub connections: usize,
    /// Messages in flight on each, at most.
    pub depth: usize,
    /// Connections held beside, that say nothing.
    pub idle: usize,
    /// Connect, one message, close; over and over, on every connection.
    pub churn: bool,
    /// `None`: closed loop, the next message follows the reply.
    pub rate: Option<Rate>,
    /// What is said.
    pub said: Said,
    /// What must come back.
    pub expected: Expected,
    /// How long is measured.
    pub duration: Duration,
    /// What is cut before that.
    pub warm_up: WarmUp,
    /// The time over which connections are opened.
    pub ramp: Duration,
    /// What a reply may take.
    pub timeout: Duration,
    /// Generator threads.
    pub threads: usize,
    /// The CPU that the first of them is bound to; the others follow.
    pub pin: Option<usize>,
    /// Where connections come from; further ones when the ports of one run out.
    pub sources: Vec<IpAddr>,
    /// What payloads and arrivals are drawn from.
    pub seed: u64,
    /// Whom the clients of `tls://` believe, and what they say of themselves.
    pub tls: Option<ClientTls>,
    /// What is asked of a target that speaks HTTP.
    #[cfg(feature = "web")]
    pub asked: Option<Asked>,
}

/// An open loop: messages are due when they are due, whatever the server does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Messages per second in all, at the beginning ...
    pub from_per_s: f64,
    /// ... and at the end of the measured time.
    pub to_per_s: f64,
    /// How they are spaced.
    pub arrivals: Arrivals,
}

/// How messages of an open loop are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As independent users come: the gaps are exponentially distributed.
    Poisson,
}

impl Arrivals {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// What is cut before measuring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmUp {
    /// Until the rate has settled, but not for ever.
    Auto,
    /// So long.
    For(Duration),
}

impl Plan {
    /// 64 connections in a closed loop with 64-byte messages, for ten seconds.
    pub fn new(target: Endpoint) -> Plan {
        Plan {
            target,
            connections: 64,
            depth: 1,
            idle: 0,
            churn: false,
            rate: None,
            said: Said::Numbered { min: 64, max: 64 },
            expected: Expected::Echo,
            duration: Duration::from_secs(10),
            warm_up: WarmUp::Auto,
            ramp: Duration::ZERO,
            timeout: Duration::from_secs(5),
            threads: 1,
            pin: None,
            sources: Vec::new(),
            seed: 1,
            tls: None,
            #[cfg(feature = "web")]
            asked: None,
        }
    }

    /// The target, with what is asked of it.
    pub fn name(&self) -> String {
        #[cfg(feature = "web")]
        if let Some(asked) = &self.asked {
            let path = if asked.path == "/" { "" } else { &asked.path };
            return format!("{}{path}", self.target);
        }
        self.target.to_string()
    }

    /// What can't be done, in one line that says what to do instead.
    ///
    /// # Errors
    /// That line.
    pub fn check(&self) -> Result<(), String> {
        let (min, max) = self.size();
        if self.connections == 0 {
            return Err("--connections 0 would do nothing: take at least 1".into());
        }
        if self.depth == 0 {
            return Err("--depth 0 would send nothing: take at least 1".into());
        }
        if self.threads == 0 || self.threads > self.connections {
            return Err(format!("--threads {}: take from 1 to the number of connections", self.threads));
        }
        if self.churn && self.depth > 1 {
            return Err("--churn sends one message per connection: leave --depth out".into());
        }
        if let Some(rate) = self.rate
            && !(rate.from_per_s >= 0.0 && rate.to_per_s > 0.0 && rate.to_per_s.max(rate.from_per_s) <= 1e9)
        {
            return Err("--rate must be more than 0 and at most 1000000000".into());
        }
        if self.duration < Duration::from_millis(10) {
            return Err("--duration must be at least 10ms".into());
        }
        if let Some(rate) = self.rate {
            let per_s = rate.from_per_s.midpoint(rate.to_per_s);
            let due = per_s * self.duration.as_secs_f64();
            if due < 1.0 {
                let enough_s = (1.0 / per_s).ceil();
                return Err(format!(
                    "--rate {per_s}: no message is due within {:?}: take a --duration of {enough_s}s or more",
                    self.duration
                ));
            }
        }
        if let Endpoint::Udp(_) = self.target {
            if self.churn {
                return Err("--churn makes connections, and UDP has none".into());
            }
            if max > 65_507 {
                return Err(format!("--size {max} is more than a datagram holds: take at most 65507"));
            }
        }
        if let Endpoint::Unix(path, _) = &self.target {
            check_unix_path(path).map_err(|error| format!("{}: {error}", self.target))?;
        }
        if min == 0 {
            return Err("--size 0 says nothing: take at least 1".into());
        }
        if let Some(cpu) = self.pin {
            let cpus = cpus();
            if cpu + self.threads > cpus {
                return Err(format!(
                    "--pin {cpu} with {} threads: there are CPUs 0 to {}",
                    self.threads,
                    cpus - 1
                ));
            }
        }
        let v6 = match self.target {
            Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) => address.is_ipv6(),
            _ if self.sources.is_empty() => return Ok(()),
            _ => return Err("--source is for tcp:// and tls:// only".into()),
        };
        match self.sources.iter().find(|source| source.is_ipv6() != v6) {
            Some(source) => Err(format!("--source {source} is not of the target's address family")),
            None => Ok(()),
        }
    }

    /// The shortest and the longest payload.
    pub fn size(&self) -> (usize, usize) {
        match &self.said {
            Said::Numbered { min, max } => (*min, *max),
            Said::Template(_) => (1, 64 * 1024),
        }
    }
}

/// How many CPUs the machine has, whether or not we may use them.
fn cpus() -> usize {
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    listed.lines().filter(|line| line.starts_with("processor")).count().max(1)
}
