//! The receivers of alerts: what each is, and whether it can be reached. None is sent an alert.

use serde::Serialize;
use tokio::task::JoinSet;

use super::check::{Check, State};
use crate::{
    act::alert::{Reach, reach},
    config::{AlertReceiver, Config},
    escape::escaped,
    redact::redact,
};

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiverCheck {
    #[serde(flatten)]
    pub check: Check,
    /// Such as `slack`.
    pub kind: String,
    /// Scheme, host and port of its address.
    pub address: String,
}

/// The receivers of a configuration, in its order, all asked at the same time.
pub(super) async fn all(config: &Config) -> Vec<ReceiverCheck> {
    let mut tries = JoinSet::new();
    for (place, receiver) in config.alerts.iter().cloned().enumerate() {
        tries.spawn(async move { (place, check(&receiver).await) });
    }
    let mut found = tries.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, check)| check).collect()
}

async fn check(receiver: &AlertReceiver) -> ReceiverCheck {
    let Reach { name, kind, place, outcome } = reach(receiver).await;
    let check = match outcome {
        Ok(address) => Check::full(&name, format!("{kind}, {place}: {address} takes connections")),
        Err(why) => {
            let remedy = "correct its address or its files, or open the way to it; `hostprobe alert test` sends a test";
            Check::degraded(&name, format!("{kind}, {place}: {}", escaped(&redact(&why))), remedy)
        }
    };
    ReceiverCheck { check, kind: kind.to_owned(), address: place }
}

impl ReceiverCheck {
    pub(super) fn is_degraded(&self) -> bool {
        self.check.state == State::Degraded
    }
}
