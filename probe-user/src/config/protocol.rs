//! The protocols of probes: the keys of a probe in the file, and one row a protocol.
//!
//! Parsing, checks, default ports and discovery follow the rows. A protocol without a row or a key does not compile.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{
    address::{self, AddressForm},
    secret::Secret,
    template::Template,
    values::{At, Table, Text, Whole},
};
use crate::fact::ProbeKind;

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
}

/// A protocol's row.
pub const fn protocol(kind: ProbeKind) -> Protocol {
    match kind {
        ProbeKind::Http => Protocol {
            address: HTTP,
            options: &[ProbeOption::Expect],
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
                schemes: &[("redis", 6379), ("rediss", 6379)],
                expected: "an address such as \"redis://127.0.0.1:6379\"",
                check: address::redis,
            },
            options: &[ProbeOption::MemoryPercent, ProbeOption::LoginRequired],
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
            options: &[ProbeOption::ConnectionsPercent, ProbeOption::LoginRequired],
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
            options: &[ProbeOption::ConnectionsPercent, ProbeOption::LoginRequired],
            attempts_may_overlap: false,
            server: Some(Server {
                executables: &["mysqld", "mariadbd"],
                target: |at| Secret::new(format!("mysql://{at}")),
            }),
        },
    }
}

/// The form of an HTTP address, which webhooks have as well.
pub(super) const HTTP: AddressForm = AddressForm {
    schemes: &[("http", 80), ("https", 443)],
    expected: "an address such as \"http://127.0.0.1:8080/health\"",
    check: address::url,
};

/// The keys of a `[[service.probe]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeKeys {
    pub(super) http: At<Text<Template>>,
    pub(super) tcp: At<Text<Template>>,
    pub(super) redis: At<Text<Template>>,
    pub(super) postgres: At<Text<Template>>,
    pub(super) mysql: At<Text<Template>>,
    pub(super) grpc: At<toml::Value>,
    pub(super) exec: At<toml::Value>,
    pub(super) password_file: At<String>,
    pub(super) interval: At<Text<Duration>>,
    pub(super) timeout: At<Text<Duration>>,
    pub(super) failures: At<Whole>,
    pub(super) slow: At<Text<Duration>>,
    pub(super) expect: At<Table<ExpectKeys>>,
    pub(super) memory_percent: At<Whole>,
    pub(super) connections_percent: At<Whole>,
    pub(super) login_required: At<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectKeys {
    #[serde(default)]
    pub(super) status: Vec<Spanned<Whole>>,
    pub(super) body_contains: Option<String>,
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
