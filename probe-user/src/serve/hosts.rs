//! All hosts of the fleet, for the dashboard: asked of NATS when a client asks, and kept for some seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::{runtime::Builder, sync::Mutex};

use crate::{
    bounded_thread, config,
    fleet::view::{self, Host},
};

/// The longest wait for NATS.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer stands: hosts publish every three seconds.
const STANDS: Duration = Duration::from_secs(3);

/// What is known of the hosts, or why nothing is.
type Known = Result<Arc<Vec<Host>>, String>;

/// Asks for the hosts. Copies share the latest answer.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// With the name of this host; None without a fleet.
    fleet: Option<Arc<(config::Fleet, String)>>,
    latest: Arc<Mutex<Option<(Instant, Known)>>>,
}

/// The answer of `/api/v1/hosts`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FleetHosts {
    /// Whether this host takes part in a fleet.
    pub(super) fleet: bool,
    pub(super) hosts: Vec<Host>,
}

impl Hosts {
    pub fn of(fleet: Option<config::Fleet>, host_name: &str) -> Self {
        Self { fleet: fleet.map(|fleet| Arc::new((fleet, host_name.to_owned()))), ..Self::default() }
    }

    pub(super) async fn ask(&self) -> Result<FleetHosts, String> {
        let Some(fleet) = self.fleet.clone() else {
            return Ok(FleetHosts { fleet: false, hosts: Vec::new() });
        };
        let mut latest = self.latest.lock().await;
        let fresh = latest.as_ref().filter(|(at, _)| at.elapsed() < STANDS);
        let known = match fresh {
            Some((_, known)) => known.clone(),
            None => {
                let known = read(fleet).await.map(Arc::new);
                *latest = Some((Instant::now(), known.clone()));
                known
            }
        };
        known.map(|hosts| FleetHosts { fleet: true, hosts: hosts.to_vec() })
    }
}

/// Reads on a thread of its own, so that a server that sends much holds up nothing.
async fn read(fleet: Arc<(config::Fleet, String)>) -> Result<Vec<Host>, String> {
    let read = move || {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let hosts =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, view::hosts(&fleet.0, &fleet.1)).await });
        runtime.shutdown_background();
        hosts.unwrap_or_else(|_| Err(format!("NATS does not answer within {PATIENCE:?}")))
    };
    let answer = bounded_thread::answer("hosts", PATIENCE + PATIENCE / 2, read).await;
    answer.unwrap_or_else(|error| Err(error.to_string()))
}
