//! Requests without the right token: each takes its turn, and the log names them once a minute at most.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::turns::Turns;

/// The rest after a refusal: who tries tokens tries a hundred a second at most, and holds up nobody who has the right one.
const REST: Duration = Duration::from_millis(10);

/// How often the log tells of refusals.
const TELL: Duration = Duration::from_secs(60);

pub(super) struct Refusals {
    turns: Turns,
    untold: Mutex<Untold>,
}

#[derive(Default)]
struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { turns: Turns::with_rests_of(REST), untold: Mutex::default() }
    }
}

impl Refusals {
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Counts one, and tells of all since the last time.
    pub fn note(&self, peer: IpAddr) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        if untold.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        let count = std::mem::take(&mut untold.count);
        untold.told = Some(Instant::now());
        tracing::warn!("http: refused {count} requests without the right token, the latest from {peer}");
    }
}
