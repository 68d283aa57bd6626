//! The form of an address, and what each protocol's client library accepts.

use reqwest::Url;

use super::{
    dns::DnsAddress,
    grpc::GrpcAddress,
    mysql::MysqlAddress,
    postgres::PostgresAddress,
    redis::{RedisAddress, WrongRedisAddress},
    socket,
};

/// What an address must be.
#[derive(Clone, Copy, Debug)]
pub struct AddressForm {
    /// The schemes of its URL, each with the port that applies where the address has none; empty: `host:port`.
    pub(super) schemes: &'static [(&'static str, u16)],
    /// Completes "expected …".
    pub(super) expected: &'static str,
    pub(super) check: fn(&str) -> Result<(), Wrong>,
}

impl AddressForm {
    pub(super) const fn is_url(&self) -> bool {
        !self.schemes.is_empty()
    }

    pub(super) fn has_scheme_of(&self, address: &str) -> bool {
        let scheme = address.split_once("://").map(|(scheme, _)| scheme);
        !self.is_url() || self.schemes.iter().any(|(name, _)| Some(*name) == scheme)
    }

    /// The port of an address that has none.
    pub(super) fn port(&self, scheme: &str) -> Option<u16> {
        let named = self.schemes.iter().find(|(name, _)| *name == scheme);
        named.or(self.schemes.first()).map(|(_, port)| *port)
    }
}

/// Why an address is refused.
#[derive(Debug)]
pub(super) enum Wrong {
    /// Must not repeat any part of the address, which may hold a password.
    Because(String),
}

pub(super) fn url(text: &str) -> Result<(), Wrong> {
    match Url::parse(text) {
        Ok(url) if url.has_host() && url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        Ok(_) => Err(Wrong::Because("an address without a host".to_owned())),
        Err(error) => Err(Wrong::Because(format!(
            "a wrong address: {error} (special characters of a password are written as %XX)"
        ))),
    }
}

pub(super) fn host_and_port(text: &str) -> Result<(), Wrong> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_right = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let port_is_right =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if host_is_right && port_is_right { Ok(()) } else { Err(Wrong::Because("a wrong address".to_owned())) }
}

pub(super) fn host(text: &str) -> Result<(), Wrong> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_right = text.parse::<std::net::IpAddr>().is_ok() || !text.is_empty() && text.bytes().all(is_name);
    if is_right { Ok(()) } else { Err(Wrong::Because("a wrong address".to_owned())) }
}

pub(super) fn grpc(text: &str) -> Result<(), Wrong> {
    url(text)?;
    let wrong = || {
        Wrong::Because("a wrong gRPC address: only the name of a service may follow the server".to_owned())
    };
    GrpcAddress::parse(text).map(drop).ok_or_else(wrong)
}

pub(super) fn dns(text: &str) -> Result<(), Wrong> {
    url(text)?;
    let wrong =
        || Wrong::Because("a wrong DNS address: only a name and a type may follow the server".to_owned());
    DnsAddress::parse(text).map(drop).ok_or_else(wrong)
}

/// A target that is no address.
pub(super) fn any(_: &str) -> Result<(), Wrong> {
    Ok(())
}

pub(super) fn unix_socket(text: &str) -> Result<(), Wrong> {
    // `sun_path` of unix(7), with the zero byte that ends a path and begins an abstract name.
    const LONGEST: usize = 107;
    let named = text.strip_prefix('@').map_or(text.starts_with('/'), |name| !name.is_empty());
    if named && text.len() <= LONGEST && !text.contains('\0') {
        Ok(())
    } else {
        Err(Wrong::Because("a wrong address".to_owned()))
    }
}

pub(super) fn http(text: &str) -> Result<(), Wrong> {
    match socket::of_http(text) {
        Some(name) if !socket::is_right(&name) => {
            let expected = "its host is no socket (a slash of its path is written as %2F)";
            Err(Wrong::Because(format!("a wrong address: {expected}")))
        }
        Some(_) | None => url(text),
    }
}

pub(super) fn redis(text: &str) -> Result<(), Wrong> {
    if !text.starts_with("redis+unix:") {
        url(text)?;
    }
    match RedisAddress::parse(text) {
        Ok(_) => Ok(()),
        Err(error @ WrongRedisAddress::Socket) => {
            Err(Wrong::Because(format!("a wrong Redis address: {error}")))
        }
        Err(WrongRedisAddress::Url(_)) => Err(Wrong::Because(
            "a wrong Redis address: only a database number may follow the host".to_owned(),
        )),
    }
}

pub(super) fn mysql(text: &str) -> Result<(), Wrong> {
    MysqlAddress::parse(text).map(drop).map_err(|error| Wrong::Because(error.to_string()))
}

pub(super) fn postgres(text: &str) -> Result<(), Wrong> {
    PostgresAddress::parse(text).map(drop).map_err(|error| Wrong::Because(error.to_string()))
}
