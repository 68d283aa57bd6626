//! Answers over HTTP that may need the state file: incidents, a report, and how available a service was.
//!
//! They take turns of their own (`serve/connections.rs`), so that no disk holds up the health of the services.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::{json::json, query::Query, shown::Shown};
use crate::{escape::escaped, store::history::NotOne};

const INCIDENTS: &str = "/api/v1/incidents";
const REPORT: &str = "/api/v1/report";
const UPTIME: &str = "/api/v1/uptime";
const HOSTS: &str = "/api/v1/hosts";

/// The longest id of an incident, in bytes.
const ID_MAX: usize = 64;

/// The period of a report that names none.
const PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether an answer may wait for the state file, or for NATS.
pub(super) fn waits_for_disk(uri: &Uri) -> bool {
    let path = uri.path();
    // The latest incidents are in memory.
    path.starts_with(INCIDENTS) && (path != INCIDENTS || uri.query().is_some())
        || path == REPORT
        || path == UPTIME
        || path == HOSTS
}

pub(super) fn router(shown: Shown) -> Router {
    Router::new()
        .route(INCIDENTS, get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route(REPORT, get(report))
        .route(UPTIME, get(uptime))
        .route(HOSTS, get(hosts))
        .with_state(shown)
}

/// The latest incidents; with a period or a service, also those of earlier runs of the daemon.
async fn incidents(State(shown): State<Shown>, uri: Uri) -> Response {
    let Query { since, service } = match Query::of(&uri) {
        Ok(query) => query,
        Err(why) => return sentence(StatusCode::BAD_REQUEST, &why),
    };
    if since.is_none() && service.is_none() {
        return json(&shown.history().incidents());
    }
    let past = shown.past.incidents(since, service.clone()).await;
    json(&shown.incidents(past, since, service.as_deref()))
}

async fn incident(State(shown): State<Shown>, Path(id): Path<String>) -> Response {
    if id.len() > ID_MAX {
        return sentence(StatusCode::NOT_FOUND, &format!("an id of an incident has at most {ID_MAX} bytes"));
    }
    let explained = shown.history().explain(&id);
    let explained = match explained {
        Err(NotOne::None) => shown.past.explain(id.clone()).await,
        explained => explained,
    };
    match explained {
        Ok(explanation) => json(&explanation),
        Err(none) => sentence(StatusCode::NOT_FOUND, &none.in_words(&id)),
    }
}

async fn report(State(shown): State<Shown>, uri: Uri) -> Response {
    let query = match Query::of(&uri) {
        Ok(query) => query,
        Err(why) => return sentence(StatusCode::BAD_REQUEST, &why),
    };
    match shown.past.report(query.since.unwrap_or(PERIOD), query.service).await {
        Ok(report) => json(&report),
        Err(why) => sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("no report can be made: {why}")),
    }
}

async fn uptime(State(shown): State<Shown>, uri: Uri) -> Response {
    let query = match Query::of(&uri) {
        Ok(query) => query,
        Err(why) => return sentence(StatusCode::BAD_REQUEST, &why),
    };
    let Some(service) = query.service else {
        return sentence(StatusCode::BAD_REQUEST, "which service? expected service=NAME");
    };
    match shown.past.uptime(query.since.unwrap_or(PERIOD), service).await {
        Ok(uptime) => json(&uptime),
        Err(why) => sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("no uptime can be told: {why}")),
    }
}

/// The hosts of the fleet, which NATS has.
async fn hosts(State(shown): State<Shown>) -> Response {
    match shown.hosts.ask().await {
        Ok(hosts) => json(&hosts),
        Err(why) => sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("the fleet cannot be read: {why}")),
    }
}

/// A line that a terminal can show, where `curl` is run.
fn sentence(code: StatusCode, text: &str) -> Response {
    (code, format!("{}\n", escaped(text))).into_response()
}
