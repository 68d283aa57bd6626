//! Metrics of alerts, and of the heartbeat to elsewhere.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::labels::{AlertLabels, OutcomeLabels, ReceiverLabels};
use crate::{act::outward_heartbeat::HeartbeatCounts, fact::AlertOutcome};

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Default)]
pub(super) struct AlertMetrics {
    alerts: Family<AlertLabels, Counter>,
    waiting: Family<ReceiverLabels, Gauge>,
    last_success: Family<ReceiverLabels, Seconds>,
    heartbeats: Family<OutcomeLabels, Counter>,
    last_heartbeat: Seconds,
}

impl AlertMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let it = Self::default();
        own.register("alerts", "Alerts sent, and alerts that failed at least once", it.alerts.clone());
        own.register("alerts_waiting", "Alerts that wait for their receiver", it.waiting.clone());
        own.register(
            "alert_last_success_timestamp_seconds",
            "When a receiver took an alert last",
            it.last_success.clone(),
        );
        own.register(
            "heartbeats_elsewhere",
            "Requests to the address of [heartbeat], by outcome",
            it.heartbeats.clone(),
        );
        own.register(
            "heartbeat_elsewhere_last_success_timestamp_seconds",
            "When the address of [heartbeat] answered with success last",
            it.last_heartbeat.clone(),
        );
        it
    }

    pub(super) fn on_outcome(&self, alert: &AlertOutcome) {
        let (receiver, outcome) =
            (alert.receiver.clone(), if alert.error.is_none() { "sent" } else { "failed" });
        self.alerts.get_or_create(&AlertLabels { receiver: receiver.clone(), outcome }).inc();
        if alert.error.is_none() {
            self.last_success.get_or_create(&ReceiverLabels { receiver }).set(now());
        }
    }

    /// The alerts that wait, by the receivers that there are.
    pub(super) fn waiting(&self, waiting: &[(String, u64)]) {
        self.waiting.clear();
        for (receiver, count) in waiting {
            let labels = ReceiverLabels { receiver: receiver.clone() };
            self.waiting.get_or_create(&labels).inc_by(i64::try_from(*count).unwrap_or(i64::MAX));
            // A rate needs the zero before the first one.
            for outcome in ["sent", "failed"] {
                let _ = self.alerts.get_or_create(&AlertLabels { receiver: receiver.clone(), outcome });
            }
        }
    }

    pub(super) fn heartbeat(&self, counts: HeartbeatCounts) {
        for (outcome, count) in [("sent", counts.sent), ("failed", counts.failed)] {
            let counter = self.heartbeats.get_or_create(&OutcomeLabels { outcome });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        if let Some(at) = counts.last_success {
            self.last_heartbeat.set(at.as_duration().as_secs_f64());
        }
    }
}

fn now() -> f64 {
    jiff::Timestamp::now().as_duration().as_secs_f64()
}
