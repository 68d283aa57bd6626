//! Keeps foreign web pages from reading what is served.
//!
//! A page in a browser on this host can have its own name resolved to a loopback address and then read what is
//! served there (DNS rebinding). The browser still sends that name as `Host`, so on loopback only names of this
//! host are answered. An address instead of a name cannot be rebound.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

#[derive(Debug)]
pub(super) struct Guard {
    /// The host's name; None: any name is answered.
    only: Option<String>,
}

impl Guard {
    /// The guard of a listener.
    pub fn of(address: SocketAddr, host_name: &str) -> Self {
        Self { only: address.ip().is_loopback().then(|| host_name.to_ascii_lowercase()) }
    }

    /// Whether a `Host` header may ask.
    fn admits(&self, host: &str) -> bool {
        let Some(own) = &self.only else { return true };
        let host = host.trim().to_ascii_lowercase();
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let name = name.trim_end_matches('.');
        name == "localhost" || name == own || name.parse::<IpAddr>().is_ok()
    }
}

/// Answers only whom the guard admits, and marks answers as not to be kept or guessed at.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    // Checkers that speak HTTP/1.0 send no Host; browsers always do.
    let hosts = request.headers().get_all(header::HOST);
    let admitted = hosts.iter().all(|host| host.to_str().is_ok_and(|host| guard.admits(host)));
    let mut response = if admitted {
        next.run(request).await
    } else {
        let why = "this name is not one of this host; ask for localhost or 127.0.0.1\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    };
    let headers = response.headers_mut();
    // The dashboard's files say themselves that they may be kept.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_for_names_of_this_host() {
        let guard = Guard::of("127.0.0.1:9464".parse().unwrap(), "DB-1");
        for host in ["localhost:9464", "127.0.0.1", "[::1]:9464", "db-1:9464", "LOCALHOST.", "10.0.0.1"] {
            assert!(guard.admits(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9464", "", "127.0.0.1.evil.example"] {
            assert!(!guard.admits(host), "{host}");
        }
    }

    #[test]
    fn other_addresses_answer_to_any_name() {
        let guard = Guard::of("10.0.0.1:9464".parse().unwrap(), "db-1");
        assert!(guard.admits("monitoring.example"));
    }
}
