//! Jobs that report in over HTTP.
//!
//! A body is not read. A heartbeat with a token takes no other caller. Without one, every caller of this host may report, and so
//! the listener must be on loopback. A page in a browser on this host is no job: browsers name the page in `Origin`.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::post,
};

use super::route::{Answer, Method, Parameter, Route};
use crate::probe::heartbeat::{Caller, Heartbeats, NoBeat};

#[derive(Clone)]
struct Door {
    heartbeats: Heartbeats,
    is_local: bool,
}

pub(super) fn route(heartbeats: Heartbeats, is_local: bool) -> Route {
    Route {
        path: "/beat/{name}",
        method: Method::Post,
        id: "beat",
        summary: "A job reports in. A heartbeat with a token of its own takes `Authorization: Bearer` with that one.",
        is_open: true,
        parameters: &[Parameter::JobName],
        answers: vec![
            Answer::text(200, "The job has reported in."),
            Answer::text(400, "The name is not UTF-8."),
            Answer::text(401, "The heartbeat has a token, and this is not it."),
            Answer::text(403, "A web page asks, or a client elsewhere without a token."),
            Answer::text(404, "No heartbeat has this name."),
        ],
        handler: post(beat).with_state(Door { heartbeats, is_local }),
    }
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
