//! The question of a DNS probe, as a URL of RFC 4501.

use std::str::FromStr as _;

use hickory_proto::rr::{Name, RecordType};
use reqwest::Url;

/// The port where the address has none.
pub(super) const DEFAULT_PORT: u16 = 53;

/// The types that can be asked for. Others are transfers, or no data.
const TYPES: [&str; 11] = ["A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TXT"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAddress {
    /// Host and port of the server.
    pub server: String,
    pub name: Name,
    pub record: RecordType,
}

impl DnsAddress {
    /// Parses `dns://server[:port]/name[?type=TYPE]`.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "dns")?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return None;
        }
        let name =
            url.path().strip_prefix('/').filter(|name| !name.is_empty() && !name.contains(['/', '%']))?;
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        let word = match url.query() {
            None => "A".to_owned(),
            Some(query) => {
                let (key, word) = query.split_once('=')?;
                key.eq_ignore_ascii_case("type").then(|| word.to_ascii_uppercase())?
            }
        };
        let record = TYPES.contains(&word.as_str()).then(|| RecordType::from_str(&word).ok())??;
        let server = format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT));
        Some(Self { server, name, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_a_name_and_a_type() {
        let parsed = |text: &str| {
            let address = DnsAddress::parse(text)?;
            Some((address.server, address.name.to_ascii(), address.record))
        };
        let right = |server: &str, name: &str, record| Some((server.to_owned(), name.to_owned(), record));
        assert_eq!(
            parsed("dns://127.0.0.1/example.org"),
            right("127.0.0.1:53", "example.org.", RecordType::A)
        );
        assert_eq!(
            parsed("dns://[::1]:5353/_sip._tcp.example.org.?TYPE=srv"),
            right("[::1]:5353", "_sip._tcp.example.org.", RecordType::SRV)
        );
        for wrong in [
            "127.0.0.1",
            "http://h/a",
            "dns:///a",
            "dns://h",
            "dns://h/",
            "dns://h/a/b",
            "dns://h/a?type=AXFR",
            "dns://h/a?type=",
            "dns://h/a?class=CH",
            "dns://h/a..b",
            "dns://u@h/a",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
