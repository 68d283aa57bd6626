//! What a NATS server says of itself over its monitoring port.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    bench::usage::{self, Used, window},
    fleet::Nats,
    http::get,
};

const PORT: u16 = 8222;

/// The further configuration of a server that is asked here, with room for the state of all hosts.
pub const CONFIGURATION: &str = "http: \"127.0.0.1:8222\"\nmax_connections: 100000";

/// What went through a server since it was started, and when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    at: Instant,
    /// From clients.
    received: f64,
    /// To clients.
    sent: f64,
    bytes: f64,
}

/// The same, a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub received: f64,
    pub sent: f64,
    /// In both directions.
    pub bytes: f64,
}

impl Traffic {
    pub fn now() -> Result<Self> {
        let varz = ask("/varz")?;
        let number = |name: &str| varz[name].as_f64().with_context(|| format!("/varz has no {name}"));
        Ok(Self {
            at: Instant::now(),
            received: number("in_msgs")?,
            sent: number("out_msgs")?,
            bytes: number("in_bytes")? + number("out_bytes")?,
        })
    }

    /// How many messages went through the server since an earlier look, in both directions.
    pub fn messages_since(&self, earlier: &Self) -> f64 {
        self.received + self.sent - earlier.received - earlier.sent
    }

    pub fn rate_since(&self, earlier: &Self) -> Rate {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        Rate {
            received: (self.received - earlier.received) / seconds,
            sent: (self.sent - earlier.sent) / seconds,
            bytes: (self.bytes - earlier.bytes) / seconds,
        }
    }
}

/// What the server, and this process with all its hosts, do in a while in which nothing happens.
pub fn steady(nats: &Nats, length: Duration) -> Result<(Rate, Used, Used)> {
    let before = Traffic::now()?;
    let used = window(&[vec![std::process::id()], vec![nats.pid()]], length)?;
    let rate = Traffic::now()?.rate_since(&before);
    let [all, server] = used.as_slice() else { anyhow::bail!("two families have two windows") };
    // The server is a child of this process.
    let own = Used { cpu_ns: all.cpu_ns - server.cpu_ns, sleeps: all.sleeps - server.sleeps, ..*all };
    Ok((rate, own, *server))
}

/// The resident memory of this process without that of the server, and of the server; bytes.
pub fn memory(nats: &Nats) -> Result<(f64, f64)> {
    let server = usage::memory(&[nats.pid()])?.resident;
    Ok((usage::memory(&[std::process::id()])?.resident - server, server))
}

/// How many events the stream of the fleet has.
pub fn stored() -> Result<u64> {
    let jsz = ask("/jsz?accounts=1&streams=1")?;
    let accounts = jsz["account_details"].as_array().context("/jsz has no accounts")?;
    let streams = accounts.iter().filter_map(|it| it["stream_detail"].as_array()).flatten();
    let events = streams.filter(|stream| stream["name"] == "HOSTPROBE_EVENTS");
    Ok(events.filter_map(|stream| stream["state"]["messages"].as_u64()).sum())
}

fn ask(path: &str) -> Result<Value> {
    let (_, body) = get(PORT, path).with_context(|| format!("NATS does not answer {path}"))?;
    serde_json::from_str(&body).with_context(|| format!("the answer to {path} is no JSON"))
}
