//! What HTTP and the control socket answer from.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{hosts::Hosts, metrics::Metrics, past::Past, status::Status, view::View};
use crate::{
    emit::{Names, Origin, Tail},
    probe::heartbeat::Heartbeats,
    store::{
        history::{History, Listed},
        state::MOST_LISTED,
    },
};

/// The data behind the HTTP pages and the control socket.
#[derive(Clone)]
pub struct Shown {
    /// The origin of the events.
    pub origin: Arc<Origin>,
    /// The services as last published.
    pub view: watch::Receiver<Arc<View>>,
    /// What was counted and measured.
    pub metrics: Arc<Metrics>,
    /// The latest incidents.
    pub history: Arc<Mutex<History>>,
    /// The events as they come.
    pub tail: Tail,
    /// The jobs that may report in.
    pub heartbeats: Heartbeats,
    /// The incidents before those.
    pub past: Past,
    /// The hosts of the fleet.
    pub hosts: Hosts,
}

impl Default for Shown {
    /// Of a daemon that has seen nothing yet.
    fn default() -> Self {
        let origin = Origin::default();
        Self {
            origin: Arc::new(origin),
            view: watch::channel(Arc::default()).1,
            metrics: Arc::new(Metrics::new(Names::default())),
            history: Arc::default(),
            tail: Tail::default(),
            heartbeats: Heartbeats::default(),
            past: Past::default(),
            hosts: Hosts::default(),
        }
    }
}

impl Shown {
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        // It stays usable if a thread panicked: each event is taken in whole or not at all.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        let view = Arc::clone(&self.view.borrow());
        Status::of(&view, &self.origin, &self.history())
    }

    /// The incidents in memory and these of the state file: the open ones first, then the latest first.
    pub(super) fn incidents(
        &self,
        past: Vec<Listed>,
        within: Option<Duration>,
        service: Option<&str>,
    ) -> Vec<Listed> {
        let since = within.and_then(|within| jiff::Timestamp::now().checked_sub(within).ok());
        let is_meant = |incident: &Listed| {
            let end = incident.until.as_deref().and_then(|until| until.parse::<jiff::Timestamp>().ok());
            service.is_none_or(|service| service == incident.service)
                && since.is_none_or(|since| end.is_none_or(|end| end >= since))
        };
        let mut all: Vec<Listed> = self.history().incidents().into_iter().filter(is_meant).collect();
        let known: BTreeSet<String> = all.iter().map(|incident| incident.id.clone()).collect();
        all.extend(past.into_iter().filter(|incident| !known.contains(&incident.id)));
        all.sort_by(|a, b| (b.open, &b.since).cmp(&(a.open, &a.since)));
        all.truncate(MOST_LISTED as usize);
        all
    }
}
