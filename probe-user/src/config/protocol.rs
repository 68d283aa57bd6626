//! The protocols of probes: the keys of a probe in the file, and one row a protocol.
//!
//! Parsing, checks, default ports and discovery follow the rows. A protocol without a row or a key does not compile.

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, time::Duration};

use super::{
    address::{self, AddressForm},
    bytes::Bytes,
    dns, grpc,
    http::{HttpMethod, HttpVersion},
    secret::Secret,
    spanned::Spanned,
    template::Template,
    tls::TlsKeys,
    values::{At, Table, Text, Whole},
};
use crate::fact::{DatabaseRole, ProbeKind};
use schemars::JsonSchema;
use serde::Deserialize;

/// What distinguishes one protocol from the others.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub(super) address: AddressForm,
    /// The options that only some protocols have; a probe of another protocol is refused with them.
    pub(super) options: &'static [ProbeOption],
    /// The keys that its `expect` may have.
    pub(super) expectations: &'static [Expectation],
    /// Whether the port of its address is a TCP port.
    pub(super) over_tcp: bool,
    /// False where the server has few connections to give, as a database has.
    pub attempts_may_overlap: bool,
    /// How discovery recognizes a server of this protocol; None: any program may speak it.
    pub server: Option<Server>,
}

impl Protocol {
    /// The port that a server of this protocol usually listens on.
    pub fn usual_port(&self) -> Option<u16> {
        self.address.port("")
    }
}

/// A server that discovery recognizes.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The names of its executable.
    pub executables: &'static [&'static str],
    /// The address of a probe that needs no password.
    pub target: fn(SocketAddr) -> Secret,
}

/// An option that only some protocols have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeOption {
    Expect,
    MemoryPercent,
    ConnectionsPercent,
    LoginRequired,
    Tls,
    /// What an HTTP request may have.
    Request,
    Role,
    Lag,
    Transaction,
    Wait,
    Send,
    User,
    Every,
    TokenFile,
}

/// A key of `expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    Status,
    BodyContains,
    Json,
    StartsWith,
    Contains,
    Answers,
}

/// A protocol's row.
pub const fn protocol(kind: ProbeKind) -> Protocol {
    match kind {
        ProbeKind::Http => Protocol {
            address: HTTP,
            options: &[ProbeOption::Expect, ProbeOption::Tls, ProbeOption::Request, ProbeOption::TokenFile],
            expectations: &[Expectation::Status, Expectation::BodyContains, Expectation::Json],
            over_tcp: true,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Tcp => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "a host and a port such as \"127.0.0.1:8080\"",
                check: address::host_and_port,
            },
            options: &[ProbeOption::Expect, ProbeOption::Send],
            expectations: &[Expectation::StartsWith, Expectation::Contains],
            over_tcp: true,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Unix => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "the absolute path of a socket, or \"@NAME\" for an abstract one",
                check: address::unix_socket,
            },
            options: &[ProbeOption::Expect, ProbeOption::Send],
            expectations: &[Expectation::StartsWith, Expectation::Contains],
            over_tcp: false,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Udp => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "a host and a port such as \"127.0.0.1:123\"",
                check: address::host_and_port,
            },
            options: &[ProbeOption::Expect, ProbeOption::Send],
            expectations: &[Expectation::StartsWith, Expectation::Contains],
            over_tcp: false,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Exec => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "a program and its arguments",
                check: address::any,
            },
            options: &[ProbeOption::User],
            expectations: &[],
            over_tcp: false,
            attempts_may_overlap: false,
            server: None,
        },
        ProbeKind::Heartbeat => Protocol {
            address: AddressForm { schemes: &[], expected: "a name", check: address::any },
            options: &[ProbeOption::Every, ProbeOption::TokenFile],
            expectations: &[],
            over_tcp: false,
            attempts_may_overlap: false,
            server: None,
        },
        ProbeKind::Grpc => Protocol {
            address: AddressForm {
                schemes: &[("grpc", grpc::DEFAULT_PORT), ("grpcs", grpc::DEFAULT_PORT)],
                expected: "an address such as \"grpc://127.0.0.1:50051\" or \"grpcs://api.example/package.Service\"",
                check: address::grpc,
            },
            options: &[ProbeOption::Tls],
            expectations: &[],
            over_tcp: true,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Dns => Protocol {
            address: AddressForm {
                schemes: &[("dns", dns::DEFAULT_PORT)],
                expected: "an address such as \"dns://127.0.0.1/example.org?type=AAAA\"",
                check: address::dns,
            },
            options: &[ProbeOption::Expect],
            expectations: &[Expectation::Answers],
            over_tcp: false,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Icmp => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "a host such as \"192.0.2.1\" or \"gateway.example\"",
                check: address::host,
            },
            options: &[],
            expectations: &[],
            over_tcp: false,
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Redis => Protocol {
            address: AddressForm {
                schemes: &[("redis", 6379), ("rediss", 6379), ("redis+unix", 6379)],
                expected: "an address such as \"redis://127.0.0.1:6379\"",
                check: address::redis,
            },
            options: &[
                ProbeOption::MemoryPercent,
                ProbeOption::LoginRequired,
                ProbeOption::Tls,
                ProbeOption::Role,
                ProbeOption::Lag,
            ],
            expectations: &[],
            over_tcp: true,
            attempts_may_overlap: false,
            server: Some(Server {
                executables: &["redis-server", "valkey-server"],
                target: |at| Secret::new(format!("redis://{at}")),
            }),
        },
        ProbeKind::Postgres => Protocol {
            address: AddressForm {
                schemes: &[("postgres", 5432), ("postgresql", 5432)],
                expected: "an address such as \"postgres://user@127.0.0.1/database\"",
                check: address::postgres,
            },
            options: &[
                ProbeOption::ConnectionsPercent,
                ProbeOption::LoginRequired,
                ProbeOption::Tls,
                ProbeOption::Role,
                ProbeOption::Lag,
                ProbeOption::Transaction,
                ProbeOption::Wait,
            ],
            expectations: &[],
            over_tcp: true,
            attempts_may_overlap: false,
            server: Some(Server {
                executables: &["postgres", "postmaster"],
                target: |at| Secret::new(format!("postgres://postgres@{at}/postgres")),
            }),
        },
        ProbeKind::Mysql => Protocol {
            address: AddressForm {
                schemes: &[("mysql", 3306)],
                expected: "an address such as \"mysql://127.0.0.1:3306\"",
                check: address::mysql,
            },
            options: &[
                ProbeOption::ConnectionsPercent,
                ProbeOption::LoginRequired,
                ProbeOption::Tls,
                ProbeOption::Role,
                ProbeOption::Lag,
            ],
            expectations: &[],
            over_tcp: true,
            attempts_may_overlap: false,
            server: Some(Server {
                executables: &["mysqld", "mariadbd"],
                target: |at| Secret::new(format!("mysql://{at}")),
            }),
        },
    }
}

/// The form of a webhook.
pub(super) const WEBHOOK: AddressForm = AddressForm {
    schemes: &[("http", 80), ("https", 443)],
    expected: "an address such as \"http://127.0.0.1:8080/health\"",
    check: address::url,
};

/// The form of a mail server's address.
pub(super) const MAIL: AddressForm = AddressForm {
    schemes: &[("smtp", 587), ("smtps", 465)],
    expected: "an address such as \"smtp://hostprobe@mail.example:587\"",
    check: address::url,
};

const HTTP: AddressForm = AddressForm {
    schemes: &[("http", 80), ("https", 443), ("http+unix", 80)],
    expected: "an address such as \"http://127.0.0.1:8080/health\"",
    check: address::http,
};

/// A probe has exactly one protocol.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["http"]},
    {"required": ["tcp"]},
    {"required": ["unix"]},
    {"required": ["udp"]},
    {"required": ["exec"]},
    {"required": ["heartbeat"]},
    {"required": ["grpc"]},
    {"required": ["dns"]},
    {"required": ["icmp"]},
    {"required": ["redis"]},
    {"required": ["postgres"]},
    {"required": ["mysql"]}
], "dependentRequired" = {
    "udp": ["send"],
    "user": ["exec"],
    "heartbeat": ["every"],
    "every": ["heartbeat"],
    "grace": ["heartbeat"],
    "method": ["http"],
    "headers": ["http"],
    "body": ["http"],
    "redirects": ["http"],
    "http_version": ["http"],
    "memory_percent": ["redis"],
    "transaction": ["postgres"],
    "wait": ["postgres"]
}, "dependentSchemas" = {
    "expect": {"anyOf": [{"required": ["http"]}, {"required": ["tcp"]}, {"required": ["unix"]}, {"required": ["udp"]}, {"required": ["dns"]}]},
    "send": {"anyOf": [{"required": ["tcp"]}, {"required": ["unix"]}, {"required": ["udp"]}]},
    "connections_percent": {"anyOf": [{"required": ["postgres"]}, {"required": ["mysql"]}]},
    "login_required": {"anyOf": [{"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]},
    "role": {"anyOf": [{"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]},
    "lag": {"anyOf": [{"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]},
    "token_file": {"anyOf": [{"required": ["http"]}, {"required": ["heartbeat"]}]},
    "tls": {"anyOf": [{"required": ["http"]}, {"required": ["grpc"]}, {"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]}
}))]
pub(super) struct ProbeKeys {
    /// A request to an http or https address, or to "http+unix://%2Frun%2Fx.sock/path".
    pub(super) http: At<Text<Template>>,
    /// Connect to `host:port`; with `send` or `expect`, an exchange of bytes.
    pub(super) tcp: At<Text<Template>>,
    /// Connect to the Unix socket at a path, or to the abstract one "@NAME"; with `send` or `expect`, an exchange of bytes.
    pub(super) unix: At<Text<Template>>,
    /// Send a datagram to `host:port`, and wait for the answer.
    pub(super) udp: At<Text<Template>>,
    /// PING and INFO of "redis://[user:password@]host[:port]", "rediss://" for TLS, or "redis+unix:///path".
    pub(super) redis: At<Text<Template>>,
    /// Login and SELECT 1 at "postgres://user@host/database"; `?host=/folder` names a socket, and `sslmode` says when TLS is used.
    pub(super) postgres: At<Text<Template>>,
    /// Login and SELECT 1 at "mysql://user@host:port"; without a user, the server's greeting. `?socket=/path` names a socket, and
    /// `ssl-mode` says when TLS is used.
    pub(super) mysql: At<Text<Template>>,
    /// `Check` of `grpc.health.v1.Health` at "grpc://host[:port][/package.Service]", "grpcs://" for TLS.
    pub(super) grpc: At<Text<Template>>,
    /// Ask a DNS server, as "dns://server[:port]/name[?type=A]".
    pub(super) dns: At<Text<Template>>,
    /// Send an ICMP echo request to a host, by its address or its name.
    pub(super) icmp: At<Text<Template>>,
    /// Run a program with the exit codes of a Nagios plugin: an absolute path and its arguments; no shell, no PATH.
    #[schemars(length(min = 1), extend("prefixItems" = [{"pattern": "^/"}]))]
    pub(super) exec: At<Vec<Spanned<String>>>,
    /// Wait for the job with this name to report in, by `hostprobe beat NAME` or HTTP: 1 to 64 letters, digits, dots, hyphens
    /// and underscores, once.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub(super) heartbeat: At<String>,
    /// With `heartbeat`: the longest time between two reports: 1s to 366d.
    pub(super) every: At<Text<Duration>>,
    /// With `heartbeat`: how much later than that a report may come: 0s to 366d; "0s" if not given.
    pub(super) grace: At<Text<Duration>>,
    /// With `http`: a file that holds the token of `Authorization: Bearer`. With `heartbeat`: one that holds the token of reports
    /// over HTTP, of 16 characters or more.
    #[schemars(regex(pattern = "^/"))]
    pub(super) token_file: At<String>,
    /// With `exec`: the name or number of the user it runs as; the daemon's if not given.
    #[schemars(length(min = 1))]
    pub(super) user: At<String>,
    /// With `http`: the method of the request; "GET" if not given.
    pub(super) method: At<Text<HttpMethod>>,
    /// With `http`: headers of the request. `${NAME}` stands for a variable of the environment.
    pub(super) headers: At<BTreeMap<String, Spanned<String>>>,
    /// With `http`: the body of the request. `${NAME}` stands for a variable of the environment.
    pub(super) body: At<String>,
    /// With `http`: whether redirects are followed, ten at most; false if not given.
    pub(super) redirects: At<bool>,
    /// With `http`: "1.1", "2" (by ALPN over TLS, by prior knowledge otherwise), or "auto" for what the server chooses over TLS
    /// and 1.1 otherwise; "auto" if not given.
    pub(super) http_version: At<Text<HttpVersion>>,
    /// A file that holds the password of the user in the address.
    #[schemars(regex(pattern = "^/"))]
    pub(super) password_file: At<String>,
    /// From the start of one run to the start of the next: 100ms to 24h; "10s" if not given.
    pub(super) interval: At<Text<Duration>>,
    /// A run that takes longer has failed: 1ms to 1h; "5s" if not given.
    pub(super) timeout: At<Text<Duration>>,
    /// Failures in a row before probes alone count as a fault: 1 to 1000; 3 if not given.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) failures: At<Whole>,
    /// An answer that takes longer makes the service slow: 1ms to 1h; no limit if not given.
    pub(super) slow: At<Text<Duration>>,
    /// With `tcp`, `unix` or `udp`: the bytes that are sent, as a text with the escapes `\\r`, `\\n`, `\\t`, `\\0`, `\\\\` and
    /// `\\xNN`. `${NAME}` stands for a variable of the environment.
    pub(super) send: At<Text<Bytes>>,
    /// With `http`, `tcp`, `unix`, `udp` or `dns`: what the answer must be.
    pub(super) expect: At<Table<ExpectKeys>>,
    /// With `http`, `redis`, `postgres` or `mysql`: whom the probe trusts and what it shows of itself, over TLS.
    pub(super) tls: At<Table<TlsKeys>>,
    /// With `redis`: percent of maxmemory above which the service is degraded: 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(super) memory_percent: At<Whole>,
    /// With `postgres` or `mysql`: percent of the server's connections above which the verdict is `pool_exhausted`: 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(super) connections_percent: At<Whole>,
    /// With `redis`, `postgres` or `mysql`: whether a server that refuses the login counts as failed; true if not given.
    pub(super) login_required: At<bool>,
    /// With `redis`, `postgres` or `mysql`: "primary" or "replica"; any if not given. For a mysql probe, a replica is a
    /// server that is read-only.
    pub(super) role: At<Text<DatabaseRole>>,
    /// With `redis`, `postgres` or `mysql`: a replica that is further behind its primary is degraded: 1s to 24h; no limit if
    /// not given.
    pub(super) lag: At<Text<Duration>>,
    /// With `postgres`: a transaction that is open for longer makes the service degraded: 1s to 720h; no limit if not given.
    pub(super) transaction: At<Text<Duration>>,
    /// With `postgres`: a session that waits for a lock for longer, or a client for a connection of PgBouncer, makes the
    /// service degraded: 1s to 24h; no limit if not given.
    pub(super) wait: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectKeys {
    /// The right HTTP statuses, each from 100 to 599; 200 to 399 if not given.
    #[serde(default)]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub(super) status: Vec<Spanned<Whole>>,
    /// A text that the body must contain.
    pub(super) body_contains: At<String>,
    /// With `tcp`, `unix` or `udp`: the bytes that the answer must begin with, written as those of `send`.
    pub(super) starts_with: At<Text<Bytes>>,
    /// With `tcp`, `unix` or `udp`: the bytes that the answer must contain, written as those of `send`.
    pub(super) contains: At<Text<Bytes>>,
    /// With `dns`: the data of records that must be in the answer, such as "192.0.2.7" or "10 mail.example.org".
    #[serde(default)]
    pub(super) answers: Vec<Spanned<String>>,
    /// What the body must have as JSON: a JSON Pointer such as "/checks/0/status", or a key of the outermost object, and its
    /// value.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub(super) json: At<BTreeMap<String, Spanned<toml::Value>>>,
}

impl ProbeKeys {
    /// The address under a protocol's own key; None for a protocol without one.
    pub(super) const fn address(&self, kind: ProbeKind) -> Option<&Spanned<Text<Template>>> {
        match kind {
            ProbeKind::Http => self.http.as_ref(),
            ProbeKind::Tcp => self.tcp.as_ref(),
            ProbeKind::Unix => self.unix.as_ref(),
            ProbeKind::Udp => self.udp.as_ref(),
            ProbeKind::Exec | ProbeKind::Heartbeat => None,
            ProbeKind::Grpc => self.grpc.as_ref(),
            ProbeKind::Dns => self.dns.as_ref(),
            ProbeKind::Icmp => self.icmp.as_ref(),
            ProbeKind::Redis => self.redis.as_ref(),
            ProbeKind::Postgres => self.postgres.as_ref(),
            ProbeKind::Mysql => self.mysql.as_ref(),
        }
    }

    /// Where a protocol's own key is.
    pub(super) fn span(&self, kind: ProbeKind) -> Option<Range<usize>> {
        if kind == ProbeKind::Exec {
            return self.exec.as_ref().map(Spanned::span);
        }
        if kind == ProbeKind::Heartbeat {
            return self.heartbeat.as_ref().map(Spanned::span);
        }
        self.address(kind).map(Spanned::span)
    }
}
