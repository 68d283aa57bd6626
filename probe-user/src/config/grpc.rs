//! The address of a gRPC health check.

use reqwest::Url;

/// The port where the address has none.
pub(super) const DEFAULT_PORT: u16 = 50_051;

/// The longest name of a service: its length is one byte in a request.
const SERVICE_MAX: usize = 127;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcAddress {
    /// Host and port.
    pub peer: String,
    /// The host alone, an IPv6 address without its brackets.
    pub host: String,
    /// The scheme is `grpcs`.
    pub is_tls: bool,
    /// The service that is asked about; empty for the server as a whole.
    pub service: String,
}

impl GrpcAddress {
    /// Parses `grpc://host[:port][/package.Service]`, or the same with `grpcs`.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| ["grpc", "grpcs"].contains(&url.scheme()))?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let service = url.path().trim_start_matches('/');
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_right = is_plain
            && url.query().is_none()
            && url.fragment().is_none()
            && service.len() <= SERVICE_MAX
            && service.bytes().all(is_name);
        let peer = format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = url.scheme() == "grpcs";
        is_right.then(|| Self { peer, host, is_tls, service: service.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_and_perhaps_a_service() {
        let parsed = |text: &str| GrpcAddress::parse(text).map(|it| (it.peer, it.service));
        let right = |peer: &str, service: &str| Some((peer.to_owned(), service.to_owned()));
        assert_eq!(parsed("grpc://127.0.0.1"), right("127.0.0.1:50051", ""));
        assert_eq!(parsed("grpc://[::1]:9000/"), right("[::1]:9000", ""));
        assert_eq!(parsed("grpc://api:9000/shop.v1.Orders"), right("api:9000", "shop.v1.Orders"));
        let over_tls = GrpcAddress::parse("grpcs://[::1]/a.B").unwrap();
        assert_eq!(
            (over_tls.host.as_str(), over_tls.peer.as_str(), over_tls.is_tls),
            ("::1", "[::1]:50051", true)
        );
        for wrong in
            ["h:1", "http://h", "grpc://", "grpc://u@h", "grpc://h/a/b", "grpc://h/a?b", "grpc://h/%41"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(parsed(&format!("grpc://h/{}", "a".repeat(128))), None);
    }
}
