//! The protocols of probes: the keys of a probe in the file, and one row a protocol.
//!
//! Parsing, checks, default ports and discovery follow the rows. A protocol without a row or a key does not compile.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    address::{self, AddressForm},
    http::{HttpMethod, HttpVersion},
    secret::Secret,
    spanned::Spanned,
    template::Template,
    tls::TlsKeys,
    values::{At, Table, Text, Whole},
};
use crate::fact::ProbeKind;
use schemars::JsonSchema;
use serde::Deserialize;

/// What distinguishes one protocol from the others.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub(super) address: AddressForm,
    /// The options that only some protocols have; a probe of another protocol is refused with them.
    pub(super) options: &'static [ProbeOption],
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
}

/// A protocol's row.
pub const fn protocol(kind: ProbeKind) -> Protocol {
    match kind {
        ProbeKind::Http => Protocol {
            address: HTTP,
            options: &[ProbeOption::Expect, ProbeOption::Tls, ProbeOption::Request],
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Tcp => Protocol {
            address: AddressForm {
                schemes: &[],
                expected: "a host and a port such as \"127.0.0.1:8080\"",
                check: address::host_and_port,
            },
            options: &[],
            attempts_may_overlap: true,
            server: None,
        },
        ProbeKind::Redis => Protocol {
            address: AddressForm {
                schemes: &[("redis", 6379), ("rediss", 6379), ("redis+unix", 6379)],
                expected: "an address such as \"redis://127.0.0.1:6379\"",
                check: address::redis,
            },
            options: &[ProbeOption::MemoryPercent, ProbeOption::LoginRequired, ProbeOption::Tls],
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
            options: &[ProbeOption::ConnectionsPercent, ProbeOption::LoginRequired, ProbeOption::Tls],
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
            options: &[ProbeOption::ConnectionsPercent, ProbeOption::LoginRequired, ProbeOption::Tls],
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
    {"required": ["redis"]},
    {"required": ["postgres"]},
    {"required": ["mysql"]}
], "dependentRequired" = {
    "expect": ["http"],
    "method": ["http"],
    "headers": ["http"],
    "body": ["http"],
    "token_file": ["http"],
    "redirects": ["http"],
    "http_version": ["http"],
    "memory_percent": ["redis"]
}, "dependentSchemas" = {
    "connections_percent": {"anyOf": [{"required": ["postgres"]}, {"required": ["mysql"]}]},
    "tls": {"anyOf": [{"required": ["http"]}, {"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]},
    "login_required": {"anyOf": [{"required": ["redis"]}, {"required": ["postgres"]}, {"required": ["mysql"]}]}
}))]
pub(super) struct ProbeKeys {
    /// A request to an http or https address, or to "http+unix://%2Frun%2Fx.sock/path".
    pub(super) http: At<Text<Template>>,
    /// Connect to `host:port`.
    pub(super) tcp: At<Text<Template>>,
    /// PING and INFO of "redis://[user:password@]host[:port]", "rediss://" for TLS, or "redis+unix:///path".
    pub(super) redis: At<Text<Template>>,
    /// Login and SELECT 1 at "postgres://user@host/database"; `?host=/folder` names a socket, and `sslmode` says when TLS is used.
    pub(super) postgres: At<Text<Template>>,
    /// Login and SELECT 1 at "mysql://user@host:port"; without a user, the server's greeting. `?socket=/path` names a socket, and
    /// `ssl-mode` says when TLS is used.
    pub(super) mysql: At<Text<Template>>,
    /// Not supported by this version.
    #[schemars(skip)]
    pub(super) grpc: At<toml::Value>,
    /// Not supported by this version.
    #[schemars(skip)]
    pub(super) exec: At<toml::Value>,
    /// With `http`: the method of the request; "GET" if not given.
    pub(super) method: At<Text<HttpMethod>>,
    /// With `http`: headers of the request. `${NAME}` stands for a variable of the environment.
    pub(super) headers: At<BTreeMap<String, Spanned<String>>>,
    /// With `http`: the body of the request. `${NAME}` stands for a variable of the environment.
    pub(super) body: At<String>,
    /// With `http`: a file that holds the token of `Authorization: Bearer`.
    #[schemars(regex(pattern = "^/"))]
    pub(super) token_file: At<String>,
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
    /// With `http`: what the answer must be.
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
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectKeys {
    /// The right HTTP statuses, each from 100 to 599; 200 to 399 if not given.
    #[serde(default)]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub(super) status: Vec<Spanned<Whole>>,
    /// A text that the body must contain.
    pub(super) body_contains: Option<String>,
    /// What the body must have as JSON: a JSON Pointer such as "/checks/0/status", or a key of the outermost object, and its
    /// value.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub(super) json: At<BTreeMap<String, Spanned<toml::Value>>>,
}

impl ProbeKeys {
    /// The address under a protocol's own key.
    pub(super) const fn address(&self, kind: ProbeKind) -> &At<Text<Template>> {
        match kind {
            ProbeKind::Http => &self.http,
            ProbeKind::Tcp => &self.tcp,
            ProbeKind::Redis => &self.redis,
            ProbeKind::Postgres => &self.postgres,
            ProbeKind::Mysql => &self.mysql,
        }
    }
}
