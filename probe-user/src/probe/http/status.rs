//! What an HTTP status that was not expected says about the service.

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::fact::ProbeFailure;

/// What proxies write into a 503 of their own when the server behind them fails: HAProxy, Envoy (two), Traefik,
/// Apache's `mod_proxy`, Varnish (two), Squid.
const PROXY_WORDS: [&str; 8] = [
    "No server is available to handle this request",
    "no healthy upstream",
    "upstream connect error",
    "no available server",
    "due to maintenance downtime or capacity",
    "Backend fetch failed",
    "Backend is unhealthy",
    "ERR_CONNECT_FAIL",
];

pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProbeFailure {
    match status.as_u16() {
        401 | 403 | 407 | 511 => ProbeFailure::Auth,
        429 => ProbeFailure::Busy,
        503 if headers.contains_key(RETRY_AFTER) && !is_of_proxy(body) => ProbeFailure::Busy,
        503 if is_of_proxy(body) => ProbeFailure::Upstream,
        // 52x and 530 are Cloudflare's, for a server behind it that fails; 424 is "failed dependency".
        424 | 502 | 504 | 520..=530 => ProbeFailure::Upstream,
        // Insufficient storage.
        507 => ProbeFailure::MemoryFull,
        // The probe sends its request at once, so that a server that waits for it is itself late.
        408 => ProbeFailure::Status,
        // It says that all is well, and the probe wants to hear something else.
        100..=299 => ProbeFailure::Body,
        // A redirect says that the answer is elsewhere. 501, 505, 506, 508 and 510 refuse the method, the version or the path.
        300..=499 | 501 | 505 | 506 | 508 | 510 => ProbeFailure::Rejected,
        _ => ProbeFailure::Status,
    }
}

fn is_of_proxy(body: &[u8]) -> bool {
    // Apache breaks the line between its words.
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    PROXY_WORDS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> ProbeFailure {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        failure(StatusCode::from_u16(status).unwrap(), &headers.collect(), body.as_bytes())
    }

    #[test]
    fn a_refusal_of_the_probe_is_no_failure_of_the_service() {
        for status in [401, 403, 407, 511] {
            assert_eq!(of(status, &[], ""), ProbeFailure::Auth, "{status}");
        }
        for status in [301, 302, 307, 400, 404, 405, 406, 410, 415, 421, 426, 431, 451, 501, 505] {
            assert_eq!(of(status, &[], ""), ProbeFailure::Rejected, "{status}");
        }
        for status in [408, 500, 503, 599] {
            assert_eq!(of(status, &[], "busy"), ProbeFailure::Status, "{status}");
        }
        for status in [200, 204, 226] {
            assert_eq!(of(status, &[], "ok"), ProbeFailure::Body, "{status}");
        }
        assert_eq!(of(507, &[], ""), ProbeFailure::MemoryFull);
    }

    #[test]
    fn a_service_that_says_when_to_ask_again_is_busy() {
        assert_eq!(of(429, &[], ""), ProbeFailure::Busy);
        assert_eq!(of(503, &[("retry-after", "30")], "starting"), ProbeFailure::Busy);
        assert_eq!(of(500, &[("retry-after", "30")], ""), ProbeFailure::Status);
    }

    #[test]
    fn a_proxy_that_answers_for_a_failed_server_is_told_by_its_status_and_its_words() {
        for status in [502, 504, 521] {
            assert_eq!(of(status, &[], ""), ProbeFailure::Upstream, "{status}");
        }
        for body in [
            "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n",
            "<p>The server is temporarily unable to service your\nrequest due to maintenance downtime or capacity\nproblems.",
            "no healthy upstream",
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
        ] {
            assert_eq!(of(503, &[], body), ProbeFailure::Upstream, "{body}");
            assert_eq!(of(503, &[("retry-after", "5")], body), ProbeFailure::Upstream, "{body}");
            assert_eq!(of(500, &[], body), ProbeFailure::Status, "{body}");
        }
    }
}
