//! The dashboard at `/`: a page for browsers, and its files. They are parts of the program, and ask nothing of other hosts.
//!
//! The page is read only, as HTTP is. It shows texts that others chose, so the browser may run nothing but these files, and
//! the page writes texts as texts (`docs/dashboard.md`).

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use ring::digest::{SHA256, digest};

use super::route::{Answer, Body, Route, get_route};

/// The plain list of paths, for clients that do not ask for a page.
const PATHS: &str = "hostprobe\n\n/health\n/livez\n/readyz\n/metrics\n/api/v1/status\n/api/v1/incidents\n\
/api/v1/incidents/ID\n/api/v1/report?since=30d&service=NAME\n/api/v1/uptime?since=24h&service=NAME\n/api/v1/hosts\n\
/api/v1/openapi.json\n/events\n\
POST /beat/NAME\n";

/// What the browser may do with the page: run and load the files of this origin, and put no text into it as HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! file {
    ($name:literal, $content_type:expr) => {
        File {
            path: concat!("/dashboard/", $name),
            content_type: $content_type,
            content: include_str!(concat!("dashboard/", $name)),
        }
    };
}

const PAGE: File = File {
    path: "/",
    content_type: "text/html; charset=utf-8",
    content: include_str!("dashboard/index.html"),
};

const FILES: [File; 12] = [
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("main.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("model.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("cards.js", SCRIPT),
    file!("service.js", SCRIPT),
    file!("incidents.js", SCRIPT),
    file!("map.js", SCRIPT),
    file!("uptime.js", SCRIPT),
    file!("hosts.js", SCRIPT),
];

pub(super) fn routes() -> Vec<Route> {
    let index = Prepared::of(PAGE);
    let page = Answer {
        bodies: vec![Body::Of("text/html"), Body::Of("text/plain")],
        ..Answer::of("text/html", "The page, or a list of paths for clients that do not ask for a page.")
    };
    let mut routes = vec![get_route(
        ("/", "dashboard"),
        "The dashboard.",
        vec![page, known()],
        get(|headers: HeaderMap| async move { root(index, &headers) }),
    )];
    routes.extend(FILES.into_iter().map(|file| {
        let made = Prepared::of(file);
        let media_type = file.content_type.split(';').next().unwrap_or_default();
        get_route(
            (file.path, file.path.trim_start_matches('/')),
            "A file of the dashboard.",
            vec![Answer::of(media_type, "The file."), known()],
            get(|headers: HeaderMap| async move { made.for_client(&headers) }),
        )
    }));
    routes
}

fn known() -> Answer {
    Answer { status: 304, meaning: "The client has it already.", bodies: Vec::new() }
}

/// A page for browsers; everything else gets the list, as `curl` does, which accepts `*/*`.
fn root(page: Prepared, headers: &HeaderMap) -> Response {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut response = if accepted.any(|accepted| accepted.contains("text/html")) {
        page.for_client(headers)
    } else {
        PATHS.into_response()
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A file and the hash that names its content.
#[derive(Clone)]
struct Prepared {
    file: File,
    tag: HeaderValue,
}

impl Prepared {
    fn of(file: File) -> Self {
        let hash = digest(&SHA256, file.content.as_bytes());
        let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal digits in quotes are a header's value.
        let tag = HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { file, tag }
    }

    /// The file, or the word that the client has it already.
    fn for_client(&self, headers: &HeaderMap) -> Response {
        let is_known = headers.get(header::IF_NONE_MATCH) == Some(&self.tag);
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.file.content_type)], self.file.content).into_response()
        };
        let further: [(HeaderName, HeaderValue); 6] = [
            (header::ETAG, self.tag.clone()),
            // The browser keeps it, and asks each time whether it is still the one.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("same-origin"),
            ),
        ];
        response.headers_mut().extend(further);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_light_and_loads_its_own_files_only() {
        let weight: usize = FILES.iter().chain([&PAGE]).map(|file| file.content.len()).sum();
        assert!(weight <= 150_000, "{weight} bytes");
        for file in FILES.iter().chain([&PAGE]) {
            for forbidden in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("]
            {
                // The name of SVG's namespace is no address to be asked.
                let content = file.content.replace("http://www.w3.org/2000/svg", "");
                assert!(!content.contains(forbidden), "{}: {forbidden}", file.path);
            }
        }
        let imports =
            FILES.iter().flat_map(|file| file.content.lines()).filter(|line| line.contains("from \"./"));
        for import in imports {
            assert!(
                FILES.iter().any(|file| import.contains(file.path.trim_start_matches("/dashboard"))),
                "{import}"
            );
        }
    }
}
