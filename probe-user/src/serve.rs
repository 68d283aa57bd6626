//! HTTP: health of the services, liveness of the daemon, metrics, status. It is read only, but for the jobs that report in.
//!
//! It shows what the pipeline publishes and asks it nothing back, so that no request can slow detection down.

mod answers;
mod beat;
mod connections;
pub mod control;
mod dashboard;
mod guard;
pub mod health;
mod hosts;
mod json;
mod live;
pub mod metrics;
mod past;
mod query;
mod shown;
pub mod status;
mod turns;
mod view;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

pub use self::{
    hosts::Hosts,
    metrics::Metrics,
    past::Past,
    shown::Shown,
    view::{Counters, Dependency, HostIncident, ServiceView, View},
};
use json::json;

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
    shown: Shown,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let guard = guard::Guard::of(address, &shown.origin.host_name);
    let beats = beat::router(shown.heartbeats.clone(), address.ip().is_loopback());
    let router =
        router(shown).merge(beats).layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
    tokio::select! {
        ended = connections::accept(listener, router) => ended,
        () = shutdown => Ok(()),
    }
}

fn router(shown: Shown) -> Router {
    let events = live::router(shown.clone());
    let answers = answers::router(shown.clone());
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .with_state(shown)
        .merge(events)
        .merge(answers)
        .merge(dashboard::router())
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
