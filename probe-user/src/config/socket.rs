//! Addresses that name a Unix socket in place of a host and a port.

use percent_encoding::percent_decode_str;

/// `sun_path` of unix(7) holds 108 bytes, with the zero byte that ends a path or begins an abstract name.
const LONGEST: usize = 107;

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
    fn a_socket_is_a_path_or_an_abstract_name() {
        for right in ["/a", "@a", "@a/b"] {
            assert!(is_right(right), "{right}");
        }
        for wrong in ["", "a", "@", "/a\0", &"/".repeat(108)] {
            assert!(!is_right(wrong), "{wrong:?}");
        }
    }
}
