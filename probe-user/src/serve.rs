//! HTTP: health of the services, liveness of the daemon, metrics, status. It is read only, but for the jobs that report in.
//!
//! It shows what the pipeline publishes and asks it nothing back, so that no request can slow detection down.

mod access;
mod answers;
mod beat;
mod connections;
pub mod control;
mod dashboard;
#[cfg(fuzzing)]
pub mod fuzz;
mod guard;
mod handshake;
pub mod health;
mod hosts;
mod json;
mod live;
pub mod metrics;
mod openapi;
mod past;
mod query;
mod refusals;
mod renewed;
mod route;
mod shown;
pub mod status;
mod turns;
mod view;

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    sync::Arc,
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

pub use self::{
    access::Access,
    hosts::Hosts,
    metrics::Metrics,
    past::Past,
    shown::Shown,
    view::{Counters, Dependency, HostIncident, ServiceView, View},
};
use json::json;
use route::{Answer, Body, Route, get_route};

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "{address}: another process already listens there; stop it, or set http.listen to another port or to \"\""
    )]
    InUse { address: SocketAddr },
    /// Any other reason.
    #[error("{address}: cannot listen: {source}; set http.listen to an address of this host, or to \"\"")]
    Other {
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address }
        } else {
            BindError::Other { address, source }
        }
    })
}

/// Answers requests until `shutdown` is over.
pub async fn serve(
    listener: TcpListener,
    access: Access,
    shown: Shown,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let guard = guard::Guard::of(address, &shown.origin.host_name);
    let is_local = address.ip().is_loopback();
    let router = route::router(routes(&shown, is_local))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
    tokio::select! {
        ended = connections::accept(listener, router, access.clone()) => ended,
        never = renew(access) => match never {},
        () = shutdown => Ok(()),
    }
}

/// Takes over files that have changed, for ever.
async fn renew(access: Access) -> Infallible {
    if !access.has_files() {
        return pending().await;
    }
    loop {
        tokio::time::sleep(renewed::LOOK).await;
        access.renew().await;
    }
}

/// The description of what is served, in OpenAPI 3.1.
pub fn openapi() -> serde_json::Value {
    openapi::document(&routes(&Shown::default(), true))
}

fn routes(shown: &Shown, is_local: bool) -> Vec<Route> {
    let text = |meaning| Answer::of("text/plain", meaning);
    let mut routes = vec![
        get_route(
            ("/health", "health"),
            "The state of the services and of the host.",
            vec![
                Answer::json::<health::Health>("No critical service fails."),
                Answer::json::<health::Health>("A critical service fails.").with_status(503),
            ],
            get(health).with_state(shown.clone()),
        ),
        Route {
            is_open: true,
            ..get_route(("/livez", "livez"), "Whether the daemon lives.", vec![text("It does.")], get(live))
        },
        Route {
            is_open: true,
            ..get_route(
                ("/readyz", "readyz"),
                "Whether the daemon watches.",
                vec![text("It does."), Answer::text(503, "It is starting.")],
                get(ready).with_state(shown.clone()),
            )
        },
        get_route(
            ("/metrics", "metrics"),
            "Metrics for Prometheus.",
            vec![Answer {
                bodies: vec![Body::Of("text/plain"), Body::Of("application/openmetrics-text")],
                ..text("The metrics; in OpenMetrics for clients that ask for it.")
            }],
            get(metrics).with_state(shown.clone()),
        ),
        get_route(
            ("/api/v1/status", "status"),
            "The daemon and its services.",
            vec![Answer::json::<status::Status>("The status.")],
            get(status).with_state(shown.clone()),
        ),
        live::route(shown.clone()),
        beat::route(shown.heartbeats.clone(), is_local),
        openapi::route(),
    ];
    routes.extend(answers::routes(shown));
    routes.extend(dashboard::routes());
    routes
}

async fn health(State(shown): State<Shown>) -> Response {
    let view = Arc::clone(&shown.view.borrow());
    let health = health::Health::of(&view);
    let code = match health.status {
        health::Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        health::Status::Healthy | health::Status::Degraded => StatusCode::OK,
    };
    (code, json(&health)).into_response()
}

async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.view.borrow().ready {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

async fn metrics(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = metrics::Format::accepted(&accept.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, format.content_type())], shown.metrics.encode(format)).into_response()
}

async fn status(State(shown): State<Shown>) -> Response {
    json(&shown.status())
}

#[cfg(test)]
mod tests;
