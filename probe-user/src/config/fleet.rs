//! The fleet: its keys, and what is valid of them.

use std::{net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    spanned::Spanned,
    values::{At, OneOrSeveral, Size, Text, Whole, Written, pattern},
};

/// What hosts tell each other over NATS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"sign": ["credentials_file"]}))]
pub(super) struct FleetKeys {
    /// The servers, one or a list, such as "tls://nats.example:4222".
    #[schemars(required)]
    pub(super) nats: At<OneOrSeveral<NatsServer>>,
    /// A file with the credentials of this host: a user's JWT and seed, or the seed of an nkey alone.
    #[schemars(regex(pattern = "^/"))]
    pub(super) credentials_file: At<String>,
    /// A file of the certificates in PEM that are trusted, in place of the host's store.
    #[schemars(regex(pattern = "^/"))]
    pub(super) ca_file: At<String>,
    /// Its name in the fleet: 1 to 64 letters, digits, hyphens and underscores; the name of the host, with underscores for
    /// dots, if not given.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub(super) name: At<String>,
    /// The addresses by which other hosts reach it, at most 16; those of its interfaces if not given.
    #[schemars(length(min = 1, max = 16), extend("items" = {"type": "string"}))]
    pub(super) addresses: At<Vec<Spanned<String>>>,
    /// Whether its messages are signed by the nkey of `credentials_file`; false if not given.
    pub(super) sign: At<bool>,
    /// A file with a host and its public nkey a line: what is not signed by them does not count.
    #[schemars(regex(pattern = "^/"))]
    pub(super) keys_file: At<String>,
    /// How many servers keep the bucket and the stream, if this host makes them: 1 to 5; 1 if not given.
    #[schemars(range(min = 1, max = 5))]
    pub(super) replicas: At<Whole>,
    /// The size of the events that wait on disk for NATS: 2MiB to 64GiB; "64MiB" if not given.
    pub(super) spool: At<Text<Size>>,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// With its scheme and port.
    pub url: String,
    pub is_tls: bool,
}

impl Written for NatsServer {
    const EXPECTED: &'static str =
        "the address of a NATS server without a user, such as \"tls://nats.example:4222\"";

    fn read(text: &str) -> Option<Self> {
        let is_tls = text.starts_with("tls://");
        let rest = text.strip_prefix("tls://").or_else(|| text.strip_prefix("nats://"))?;
        let is_plain = !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ', '\\']);
        let url = reqwest::Url::parse(&format!("http://{rest}")).ok().filter(|_| is_plain)?;
        let scheme = if is_tls { "tls" } else { "nats" };
        let host = url.host_str()?;
        // 80 is the usual port of the scheme that the parser knows.
        let written = rest.rsplit_once(':').filter(|(_, port)| !port.is_empty() && !port.contains(']'));
        let port = match written {
            Some((_, port)) => port.parse::<u16>().ok().filter(|port| *port != 0)?,
            None => 4222,
        };
        Some(Self { url: format!("{scheme}://{host}:{port}"), is_tls })
    }

    fn schema() -> schemars::Schema {
        pattern(r"(?:tls|nats)://[^/?#@ \\]+")
    }
}

/// How this host takes part in the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub servers: Vec<NatsServer>,
    pub credentials_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    /// None: by the name of the host.
    pub name: Option<String>,
    /// Empty: those of the interfaces.
    pub addresses: Vec<IpAddr>,
    pub sign: bool,
    pub keys_file: Option<PathBuf>,
    pub replicas: usize,
    /// In bytes.
    pub spool: u64,
}
