//! HTTP, read only: health of the services, liveness of the daemon, metrics, status.
//!
//! It shows what the pipeline publishes and asks it nothing back, so that no request can slow detection down.

pub mod control;
mod guard;
pub mod health;
pub mod history;
pub mod metrics;
pub mod status;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use history::History;
pub use metrics::Metrics;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    emit::Origin,
    fact::{HookCoverage, IncidentId, ServiceState, Verdict},
};

/// What there is to show, as the pipeline last published it.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Whether the daemon watches: its hooks are attached and the services it found are known.
    pub ready: bool,
    /// The services in the order of their ids.
    pub services: Vec<ServiceView>,
    /// Hook by hook, what the daemon can see.
    pub coverage: Vec<HookCoverage>,
    /// What the daemon counted since its start.
    pub counters: Counters,
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Its systemd unit, if it is one.
    pub unit: Option<String>,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    /// Its state.
    pub state: ServiceState,
    /// How long its last probe took.
    pub response_time: Option<Duration>,
    /// What is wrong with it, in one sentence without secrets.
    pub error: Option<String>,
    /// The verdict of its open incident.
    pub verdict: Option<Verdict>,
    /// Its open incident.
    pub incident: Option<IncidentId>,
    /// That incident in one sentence.
    pub summary: Option<String>,
    /// When it came into its state; None if it never changed.
    pub since: Option<Timestamp>,
    /// What it depends on.
    pub depends_on: Vec<Dependency>,
    /// Services whose restart or alert is held because of its incident.
    pub held: Vec<String>,
}

/// A service that another one depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub service: String,
    /// Whether it was learned from connections, rather than declared.
    pub learned: bool,
}

/// What the daemon counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events said.
    pub events: u64,
    /// Events lost on their way.
    pub events_lost: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Restarts carried out.
    pub restarts: u64,
    /// Alerts that wait to be delivered.
    pub alerts_waiting: u64,
}

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "another process already listens on {address}; stop it, or set http.listen to another port or to \"\""
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Any other reason.
    #[error("cannot listen on {address}: {source}; set http.listen to an address of this host, or to \"\"")]
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

/// How long open connections are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is shown to those who ask.
#[derive(Clone)]
pub struct Shown {
    /// Who speaks.
    pub origin: Arc<Origin>,
    /// The services as last published.
    pub view: watch::Receiver<Arc<View>>,
    /// What was counted and measured.
    pub metrics: Arc<Metrics>,
    /// The latest incidents.
    pub history: Arc<Mutex<History>>,
}

impl Shown {
    fn history(&self) -> MutexGuard<'_, History> {
        // It stays usable if a thread panicked: each event is taken in whole or not at all.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> status::Status {
        let view = Arc::clone(&self.view.borrow());
        status::Status::of(&view, &self.origin, &self.history())
    }
}

/// Answers requests until `shutdown` is over.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let guard = guard::Guard::of(listener.local_addr()?, &shown.origin.host_name);
    let router = router(shown).layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        // A dropped sender means the same.
        let _ = closed.await;
    });
    let end = async {
        shutdown.await;
        let _ = close.send(());
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = server => ended,
        () = end => Ok(()),
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
