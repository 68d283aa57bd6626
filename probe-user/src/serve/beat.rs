//! Jobs that report in over HTTP.
//!
//! A body is not read. A heartbeat with a token takes no other caller. Without one, every caller of this host may report, and so
//! the listener must be on loopback. A page in a browser on this host is no job: browsers name the page in `Origin`.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::post,
};

use crate::probe::heartbeat::{Caller, Heartbeats, NoBeat};

#[derive(Clone)]
struct Door {
    heartbeats: Heartbeats,
    is_local: bool,
}

pub(super) fn router(heartbeats: Heartbeats, is_local: bool) -> Router {
    Router::new().route("/beat/{name}", post(beat)).with_state(Door { heartbeats, is_local })
}

async fn beat(
    State(door): State<Door>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, &'static str) {
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return (StatusCode::FORBIDDEN, "a web page cannot report in\n");
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    match door.heartbeats.beat(&name, Caller::Http { is_local: door.is_local, token }) {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(NoBeat::Unknown) => (StatusCode::NOT_FOUND, "no heartbeat of this name is configured\n"),
        Err(NoBeat::WrongToken) => {
            (StatusCode::UNAUTHORIZED, "expected the header `Authorization: Bearer TOKEN` with its token\n")
        }
        Err(NoBeat::NeedsToken) => {
            (StatusCode::FORBIDDEN, "http.listen is beyond loopback, so this heartbeat needs a token_file\n")
        }
    }
}
