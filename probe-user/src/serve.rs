//! HTTP, read only: health of the services, liveness of the daemon, metrics, status.
//!
//! It shows what the pipeline publishes and asks it nothing back, so that no request can slow detection down.

mod connections;
pub mod control;
mod guard;
pub mod health;
pub mod history;
pub mod metrics;
mod shown;
pub mod status;
mod view;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

pub use self::{
    metrics::Metrics,
    shown::Shown,
    view::{Counters, Dependency, ServiceView, View},
};

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "{address}: another process already listens there; stop it, or set http.listen to another port or to \"\""
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Any other reason.
    #[error("{address}: cannot listen: {source}; set http.listen to an address of this host, or to \"\"")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Listens on an address.
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
    let guard = guard::Guard::of(listener.local_addr()?, &shown.origin.host_name);
    let router = router(shown).layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
    tokio::select! {
        ended = connections::accept(listener, router) => ended,
        () = shutdown => Ok(()),
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/incidents", get(incidents))
        .with_state(shown)
}

async fn index() -> &'static str {
    "hostprobe\n\n/health\n/livez\n/readyz\n/metrics\n/api/v1/status\n/api/v1/incidents\n"
}

async fn health(State(shown): State<Shown>) -> Response {
    let view = Arc::clone(&shown.view.borrow());
    let health = health::Health::of(&view);
    let code = match health.status {
        health::Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        health::Status::Healthy | health::Status::Degraded => StatusCode::OK,
    };
    (code, Json(health)).into_response()
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

async fn metrics(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], shown.metrics.encode()).into_response()
}

async fn status(State(shown): State<Shown>) -> Json<status::Status> {
    Json(shown.status())
}

async fn incidents(State(shown): State<Shown>) -> Json<Vec<history::Listed>> {
    Json(shown.history().incidents())
}

#[cfg(test)]
mod tests;
