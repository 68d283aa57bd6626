//! Answers over HTTP that may need the state file: incidents, a report, and how available a service was.
//!
//! They take turns of their own (`serve/connections.rs`), so that no disk holds up the health of the services.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::{
    json::json,
    query::Query,
    route::{Answer, Method, Parameter, Route},
    shown::Shown,
};
use crate::{
    escape::escaped,
    store::{
        history::{Explanation, Listed, NotOne},
        report::{Report, Uptime},
    },
};

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

pub(super) fn routes(shown: &Shown) -> Vec<Route> {
    let wrong = || Answer::text(400, "A parameter is unknown, given twice, or out of its bounds.");
    let route = |path, id, summary, parameters, answers, handler: axum::routing::MethodRouter<Shown>| Route {
        path,
        method: Method::Get,
        id,
        summary,
        is_open: false,
        parameters,
        answers,
        handler: handler.with_state(shown.clone()),
    };
    let no_state = || Answer::text(503, "The daemon has no state directory, or it does not answer.");
    vec![
        route(
            INCIDENTS,
            "incidents",
            "The latest incidents, the open ones first. With a parameter, also those of earlier runs of the daemon.",
            &[Parameter::Since, Parameter::Service],
            vec![Answer::json::<Vec<Listed>>("The incidents."), wrong()],
            get(incidents),
        ),
        route(
            "/api/v1/incidents/{id}",
            "incident",
            "One incident with its timeline.",
            &[Parameter::IncidentId],
            vec![
                Answer::json::<Explanation>("The incident."),
                Answer::text(400, "The id is not UTF-8."),
                Answer::text(404, "There is no such incident, or more than one."),
            ],
            get(incident),
        ),
        route(
            REPORT,
            "report",
            "How available the services were, and how their incidents went; of the last 30 days without `since`.",
            &[Parameter::Since, Parameter::Service],
            vec![Answer::json::<Report>("The report."), wrong(), no_state()],
            get(report),
        ),
        route(
            UPTIME,
            "uptime",
            "How available one service was, by the hour up to 48 hours, else by the day, in UTC.",
            &[Parameter::OneService, Parameter::Since],
            vec![Answer::json::<Uptime>("The parts of the period."), wrong(), no_state()],
            get(uptime),
        ),
        route(
            HOSTS,
            "hosts",
            "The hosts of the fleet with their services, as NATS has them.",
            &[],
            vec![
                Answer::json::<super::hosts::FleetHosts>("The hosts; none without a fleet."),
                Answer::text(503, "NATS does not answer."),
            ],
            get(hosts),
        ),
    ]
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
