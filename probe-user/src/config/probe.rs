//! A probe of a service: what it asks, how often, and what counts as a failure.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    exchange::Exchange, exec::Exec, heartbeat::Heartbeat, http::HttpOptions, mysql::MysqlAddress,
    postgres::PostgresAddress, protocol::protocol, redis::RedisAddress, secret::Secret, socket,
    tls::TlsOptions,
};
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
    /// TLS, where the configuration has keys for it.
    pub tls: Option<TlsOptions>,
    /// HTTP: what is sent and expected beside the next two.
    pub http: HttpOptions,
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
        secrets.extend(self.http.secrets.iter().map(|secret| secret.expose().to_owned()));
        secrets
    }

    /// The Unix socket that it connects to: a path, or `@NAME` for an abstract one.
    pub fn socket(&self) -> Option<String> {
        let target = self.target.expose();
        match self.kind {
            ProbeKind::Http => socket::of_http(target),
            ProbeKind::Redis => RedisAddress::parse(target).ok()?.socket,
            ProbeKind::Postgres => PostgresAddress::parse(target).ok()?.socket(),
            ProbeKind::Mysql => MysqlAddress::parse(target).ok()?.socket,
            ProbeKind::Unix => Some(target.to_owned()),
            ProbeKind::Tcp
            | ProbeKind::Udp
            | ProbeKind::Exec
            | ProbeKind::Grpc
            | ProbeKind::Dns
            | ProbeKind::Icmp
            | ProbeKind::Heartbeat => None,
        }
    }

    /// The address it connects to, where its target has one in numbers.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.host_name()?.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some(SocketAddr::new(ip, self.port()?))
    }

    /// The same, or those of `localhost`, which are the loopback's on every host (RFC 6761).
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let is_loopback = self.host_name().is_some_and(|name| name.eq_ignore_ascii_case("localhost"));
        match self.port().filter(|_| is_loopback) {
            Some(port) => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            None => self.address().into_iter().collect(),
        }
    }

    /// The host that its target names; None if that is a Unix socket.
    fn host_name(&self) -> Option<&str> {
        if self.socket().is_some() {
            return None;
        }
        let (_, host) = self.authority();
        Some(match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        })
    }

    /// Whether a run of it may need the certificates of the host's store.
    pub fn trusts_the_hosts_store(&self) -> bool {
        let options = self.tls.as_ref();
        let is_verified = match self.kind {
            ProbeKind::Http => self.target.expose().starts_with("https:"),
            ProbeKind::Redis => self.target.expose().starts_with("rediss:"),
            ProbeKind::Grpc => self.target.expose().starts_with("grpcs:"),
            ProbeKind::Postgres | ProbeKind::Mysql => {
                options.is_some()
                    || self.target.expose().contains("verify")
                    || self.target.expose().contains("VERIFY")
            }
            ProbeKind::Tcp
            | ProbeKind::Unix
            | ProbeKind::Udp
            | ProbeKind::Exec
            | ProbeKind::Dns
            | ProbeKind::Icmp
            | ProbeKind::Heartbeat => false,
        };
        is_verified && !options.is_some_and(|options| options.insecure || options.ca_file.is_some())
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
        if !protocol(self.kind).over_tcp || self.socket().is_some() {
            return None;
        }
        let (scheme, host) = self.authority();
        let explicit = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        explicit.or_else(|| protocol(self.kind).address.port(scheme))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_names_a_socket_in_its_users_form() {
        let of = |kind, target| Probe::new(kind, Secret::new(target)).socket().unwrap_or_default();
        assert_eq!(of(ProbeKind::Http, "http+unix://%2Frun%2Fa.sock/health?x=1"), "/run/a.sock");
        assert_eq!(of(ProbeKind::Http, "http+unix://%40a/health"), "@a");
        assert_eq!(of(ProbeKind::Http, "http+unix://u:p@%2Frun%2Fa.sock/"), "/run/a.sock");
        assert_eq!(of(ProbeKind::Redis, "redis+unix:///run/redis.sock?db=1"), "/run/redis.sock");
        assert_eq!(of(ProbeKind::Redis, "redis+unix://@redis"), "@redis");
        assert_eq!(
            of(ProbeKind::Postgres, "postgres:///db?host=/run/postgresql"),
            "/run/postgresql/.s.PGSQL.5432"
        );
        assert_eq!(of(ProbeKind::Postgres, "postgres://u@%2Frun/db?port=5433"), "/run/.s.PGSQL.5433");
        assert_eq!(of(ProbeKind::Postgres, "postgres://u@/db?host=@pg"), "@pg/.s.PGSQL.5432");
        assert_eq!(of(ProbeKind::Mysql, "mysql:///db?socket=/run/my.sock"), "/run/my.sock");
        assert_eq!(of(ProbeKind::Mysql, "mysql://u@/db?socket=@my"), "@my");
        for (kind, target) in [
            (ProbeKind::Http, "http://%2Frun/"),
            (ProbeKind::Redis, "redis://h"),
            (ProbeKind::Postgres, "postgres://u@h/db"),
            (ProbeKind::Mysql, "mysql://h"),
            (ProbeKind::Tcp, "h:1"),
        ] {
            assert_eq!(of(kind, target), "", "{target}");
        }
    }
}
