//! Alerts, as effects and at the wish of the operator.

use crate::{
    act::alert::AlertError, config::AlertReceiver, daemon::executor::Executor, fact::AlertTestOutcome,
};

impl Executor {
    /// Delivers the alerts of new incidents to these receivers from now on.
    pub(in crate::daemon) fn configure_alerts(
        &mut self,
        receivers: &[AlertReceiver],
    ) -> Result<(), AlertError> {
        self.alerter.as_mut().map_or(Ok(()), |alerter| alerter.configure(receivers))
    }

    /// The number of alerts that wait for delivery, by receiver.
    pub(in crate::daemon) fn alerts_waiting(&self) -> Vec<(String, u64)> {
        self.alerter.as_ref().map_or_else(Vec::new, |alerter| alerter.waiting_by_receiver())
    }

    /// Sends a test message to the receiver of this name, or to all; None if there is none.
    pub(in crate::daemon) fn test_alerts(
        &self,
        receiver: Option<&str>,
        by: &str,
    ) -> Option<impl Future<Output = Vec<AlertTestOutcome>> + Send + 'static> {
        self.alerter.as_ref()?.test(receiver, by)
    }
}
