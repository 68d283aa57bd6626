//! The address of a Redis server: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` over TLS, or
//! `redis+unix:///PATH?db=DB&user=USER&pass=PASSWORD`.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError};

use super::socket;

/// The path that stands for the name of an abstract socket while the address is parsed.
const STAND_IN: &str = "/abstract";

#[derive(Debug)]
pub struct RedisAddress {
    pub info: ConnectionInfo,
    /// The host and port; empty with a socket.
    pub host: String,
    pub port: u16,
    /// The server's Unix socket: a path, or `@NAME` for an abstract one.
    pub socket: Option<String>,
    pub is_tls: bool,
}

/// It must not repeat any part of the address.
#[derive(Debug, thiserror::Error)]
pub enum WrongRedisAddress {
    #[error("{0}")]
    Url(String),
    #[error("a socket is named by its absolute path, or by \"@NAME\" for an abstract one")]
    Socket,
}

impl From<RedisError> for WrongRedisAddress {
    fn from(error: RedisError) -> Self {
        Self::Url(error.category().to_owned())
    }
}

impl RedisAddress {
    pub fn parse(text: &str) -> Result<Self, WrongRedisAddress> {
        if let Some(rest) = text.strip_prefix("redis+unix://@") {
            let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
            let name = format!("@{name}");
            let info = format!("redis+unix://{STAND_IN}?{query}").into_connection_info()?;
            return Self::of(info, false, Some(name));
        }
        let is_tls = text.starts_with("rediss://");
        let info = text.replacen("rediss://", "redis://", 1).into_connection_info()?;
        Self::of(info, is_tls, None)
    }

    /// The server, for people: host and port, or its socket.
    pub fn peer(&self) -> String {
        let Self { host, port, socket, .. } = self;
        match socket {
            Some(name) => name.clone(),
            // An IPv6 address has colons of its own.
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        }
    }

    fn of(info: ConnectionInfo, is_tls: bool, name: Option<String>) -> Result<Self, WrongRedisAddress> {
        let (host, port, path) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, None),
            ConnectionAddr::Unix(path) => (String::new(), 0, Some(path.display().to_string())),
            // The enum may grow: any other way to a server is one this probe cannot go either.
            ConnectionAddr::TcpTls { .. } | _ => {
                return Err(WrongRedisAddress::Url("an unknown kind of address".to_owned()));
            }
        };
        let socket = name.or(path);
        if socket.as_deref().is_some_and(|name| !socket::is_right(name)) {
            return Err(WrongRedisAddress::Socket);
        }
        Ok(Self { host, port, socket, is_tls, info })
    }
}
