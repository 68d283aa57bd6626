//! Addresses that name a Unix socket in place of a host and a port.

use percent_encoding::percent_decode_str;

use super::{mysql::MysqlAddress, postgres::PostgresAddress, redis::RedisAddress};
use crate::fact::ProbeKind;

/// `sun_path` of unix(7) holds 108 bytes, with the zero byte that ends a path or begins an abstract name.
const LONGEST: usize = 107;

/// The socket that an address names: a path, or `@NAME` for an abstract one.
pub(super) fn of(kind: ProbeKind, target: &str) -> Option<String> {
    match kind {
        ProbeKind::Http => of_http(target),
        ProbeKind::Redis => RedisAddress::parse(target).ok()?.socket,
        ProbeKind::Postgres => PostgresAddress::parse(target).ok()?.socket(),
        ProbeKind::Mysql => MysqlAddress::parse(target).ok()?.socket,
        ProbeKind::Tcp => None,
    }
}

/// The host of `http+unix://HOST/path`, in which a slash is written as `%2F`.
pub(super) fn of_http(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http+unix://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A `@` may be the first character of an abstract name or end a password.
    let host = match authority.rsplit_once('@') {
        Some(("", name)) => format!("@{name}"),
        Some((_, host)) => host.to_owned(),
        None => authority.to_owned(),
    };
    Some(percent_decode_str(&host).decode_utf8_lossy().into_owned())
}

/// Whether a text names a socket.
pub(super) fn is_right(name: &str) -> bool {
    let named = name.strip_prefix('@').map_or(name.starts_with('/'), |name| !name.is_empty());
    named && name.len() <= LONGEST && !name.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_names_a_socket_in_its_users_form() {
        let of = |kind, target| of(kind, target).unwrap_or_default();
        assert_eq!(of(ProbeKind::Http, "http+unix://%2Frun%2Fa.sock/health?x=1"), "/run/a.sock");
        assert_eq!(of(ProbeKind::Http, "http+unix://%40a/health"), "@a");
        assert_eq!(of(ProbeKind::Http, "http+unix://u:p@%2Frun%2Fa.sock/"), "/run/a.sock");
        assert_eq!(of(ProbeKind::Redis, "redis+unix:///run/redis.sock?db=1"), "/run/redis.sock");
        assert_eq!(of(ProbeKind::Redis, "redis+unix://@redis"), "@redis");
        assert_eq!(of(ProbeKind::Postgres, "postgres:///db?host=/run/postgresql"), "/run/postgresql/.s.PGSQL.5432");
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

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        for right in ["/a", "@a", "@a/b"] {
            assert!(is_right(right), "{right}");
        }
        for wrong in ["", "a", "@", "/a\0", &"/".repeat(108)] {
            assert!(!is_right(wrong), "{wrong:?}");
        }
    }
}
