//! The two ends of a request: the name of the probe and the place of the server.

use reqwest::Url;

use crate::config::Probe;

/// What the probes call themselves.
pub(super) const AGENT: &str = concat!("hostprobe/", env!("CARGO_PKG_VERSION"));

/// Where a request is sent.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// An http or https URL.
    pub(super) url: Url,
    /// The Unix socket in place of the URL's host.
    pub(super) socket: Option<String>,
    /// It is the probe's own, and not one that it was redirected to.
    pub(super) is_own: bool,
}

impl Target {
    /// None if the probe's address is no URL.
    pub(super) fn of(probe: &Probe) -> Option<Self> {
        let text = probe.target.expose();
        let Some(socket) = probe.socket() else {
            return Some(Self { url: Url::parse(text).ok()?, socket: None, is_own: true });
        };
        let rest = text.split_once("://")?.1;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let user = authority.rsplit_once('@').map(|(user, _)| user).filter(|user| !user.is_empty());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Some(Self {
            url: Url::parse(&format!("http://{user}localhost{path}")).ok()?,
            socket: Some(socket),
            is_own: true,
        })
    }

    /// Where a redirect leads; None if it leads nowhere.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let url = self.url.join(location).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
        let is_same = url.origin() == self.url.origin();
        let socket = self.socket.clone().filter(|_| is_same);
        Some(Self { url, socket, is_own: self.is_own && is_same })
    }

    /// For people: the host and port, or the socket.
    pub(super) fn peer(&self) -> String {
        self.socket.clone().unwrap_or_else(|| host_and_port(&self.url))
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }
}

/// The host of a URL, with its port if that is not the usual one.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
