//! What an HTTP status that was not expected says about the service.

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER, SERVER},
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

/// What nginx says in a 503 of its own, and no application behind it: for `limit_req`, `limit_conn` or `return 503`. For a
/// server behind it that fails it answers 502 or 504.
const NGINX_REFUSES: &str = ": nginx itself refuses it, by limit_req, limit_conn or a configured `return 503`; its error log says which";

/// What a status that was not expected says, with further words for people.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> (ProbeFailure, &'static str) {
    let failure = match status.as_u16() {
        503 if is_of_nginx(body) => return (ProbeFailure::Busy, NGINX_REFUSES),
        503 if is_of_caddy(headers, body) => ProbeFailure::Upstream,
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
    };
    (failure, if failure == ProbeFailure::Upstream { OF_PROXY } else { "" })
}

const OF_PROXY: &str = ": what answers is a proxy, whose server behind it fails";

/// The page that nginx makes (`ngx_http_special_response.c`). OpenResty and others name themselves in place of nginx.
fn is_of_nginx(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let title = "<head><title>503 Service Temporarily Unavailable</title></head>";
    text.contains(title) && text.contains("<hr><center>") && text.len() < NGINX_PAGE_MAX
}

/// Its page has 190 bytes, and up to six lines of comment for old browsers.
const NGINX_PAGE_MAX: usize = 1024;

/// Caddy has no page for a server behind it that it knows to be down.
fn is_of_caddy(headers: &HeaderMap, body: &[u8]) -> bool {
    body.is_empty() && headers.get(SERVER).is_some_and(|server| server == "Caddy")
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
        failure(StatusCode::from_u16(status).unwrap(), &headers.collect(), body.as_bytes()).0
    }

    /// A page of nginx, with its name or that of a relative of it.
    fn nginx_page(status: &str, name: &str) -> String {
        format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
             <hr><center>{name}</center>\r\n</body>\r\n</html>\r\n"
        )
    }

    #[test]
    fn a_503_of_nginx_itself_is_no_failure_that_its_restart_mends() {
        let unavailable = "503 Service Temporarily Unavailable";
        for name in ["nginx/1.26.3", "nginx", "openresty/1.27.1.1"] {
            let page = nginx_page(unavailable, name);
            assert_eq!(of(503, &[], &page), ProbeFailure::Busy, "{page}");
            assert_eq!(of(503, &[("retry-after", "5")], &page), ProbeFailure::Busy, "{page}");
            assert_eq!(of(500, &[], &page), ProbeFailure::Status, "{page}");
        }
        let (_, words) = failure(
            StatusCode::SERVICE_UNAVAILABLE,
            &HeaderMap::new(),
            nginx_page(unavailable, "nginx").as_bytes(),
        );
        assert!(words.contains("limit_req"), "{words}");
        for of_an_application in [unavailable, "<html><title>503 Service Temporarily Unavailable</title>", ""]
        {
            assert_eq!(of(503, &[("server", "nginx")], of_an_application), ProbeFailure::Status);
        }
    }

    #[test]
    fn an_empty_503_of_caddy_is_for_a_server_behind_it() {
        assert_eq!(of(503, &[("server", "Caddy")], ""), ProbeFailure::Upstream);
        assert_eq!(of(503, &[("server", "Caddy")], "starting"), ProbeFailure::Status);
        assert_eq!(of(503, &[("server", "app")], ""), ProbeFailure::Status);
        assert_eq!(of(500, &[("server", "Caddy")], ""), ProbeFailure::Status);
        assert_eq!(of(503, &[], ""), ProbeFailure::Status);
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
