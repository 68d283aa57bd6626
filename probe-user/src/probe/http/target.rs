//! The two ends of a request: the name of the probe and the name of the server.

use reqwest::Url;

/// What the probes call themselves.
pub(super) const AGENT: &str = concat!("hostprobe/", env!("CARGO_PKG_VERSION"));

/// `host:port` of a URL, if it has both.
pub(super) fn address(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// The host and port of a URL, for people.
pub(super) fn peer(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority).to_owned()
}
