//! A probe of a service: what it asks, how often, and what counts as a failure.

use std::{net::SocketAddr, time::Duration};

use super::{exchange::Exchange, exec::Exec, heartbeat::Heartbeat, protocol::protocol, secret::Secret};
use crate::fact::{ProbeKind, ServerLimits};

#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub kind: ProbeKind,
    /// A URL, `host:port` or the path of a socket, as its protocol has it; may hold a password.
    pub target: Secret,
    /// Time from the start of one run to the start of the next.
    pub interval: Duration,
    /// A run that takes longer fails.
    pub timeout: Duration,
    /// Failures in a row before they count.
    pub failures: u32,
    /// An answer that takes longer is slow.
    pub slow: Option<Duration>,
    /// HTTP statuses that are right; empty: 200 to 399.
    pub expect_status: Vec<u16>,
    /// Text the HTTP body must contain.
    pub expect_body: Option<String>,
    /// The bytes that are sent and expected.
    pub exchange: Exchange,
    /// The program of a check.
    pub exec: Option<Exec>,
    /// The data that a DNS answer must have.
    pub expect_answers: Vec<String>,
    /// The job that is to report in.
    pub heartbeat: Option<Heartbeat>,
    /// Redis: percent of `maxmemory` above which it is degraded.
    pub memory_percent: Option<u8>,
    /// Databases: percent of the connections there may be, above which too many are in use.
    pub connections_percent: Option<u8>,
    /// Databases: what is expected of the numbers that they report.
    pub server: ServerLimits,
    /// A server that refuses the login counts as up (`login_required = false`): for discovered services, whose
    /// password hostprobe does not have.
    pub auth_is_alive: bool,
}

impl Probe {
    /// Its passwords and tokens, which no output may hold.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.target.parts();
        secrets.extend(self.heartbeat.iter().filter_map(|it| it.token.as_ref()).flat_map(Secret::parts));
        secrets.extend(self.exchange.secrets().iter().cloned());
        secrets
    }

    /// The address it connects to, where its target has one in numbers.
    pub fn address(&self) -> Option<SocketAddr> {
        let (_, host) = self.authority();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some(SocketAddr::new(ip, self.port()?))
    }

    /// The target's scheme, and its host with its port.
    fn authority(&self) -> (&str, &str) {
        let target = self.target.expose();
        let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        (scheme, authority.rsplit('@').next().unwrap_or_default())
    }

    /// The TCP port it connects to.
    pub fn port(&self) -> Option<u16> {
        if !protocol(self.kind).over_tcp {
            return None;
        }
        let (scheme, host) = self.authority();
        let explicit = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        explicit.or_else(|| protocol(self.kind).address.port(scheme))
    }
}
