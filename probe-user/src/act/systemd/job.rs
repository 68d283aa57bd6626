//! Following a job of systemd to its end.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, message::Type};

use super::{
    SystemdError,
    link::{Link, SYSTEMD},
};

/// How a job ended, by systemd's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// It did what it was for.
    Done,
    /// It did not: failed, timeout, dependency (a unit it needs did not start), canceled (another job took
    /// its place), skipped, …
    Failed(String),
    /// It was still under way when the caller's patience ended.
    StillRunning,
}

impl Link {
    pub(super) async fn restart_and_wait(
        &self,
        unit: &str,
        limit: Duration,
    ) -> Result<JobOutcome, SystemdError> {
        let waiting = || format!("following the restart of {unit}");
        let failed = |source| SystemdError::Call { call: waiting(), source };
        // Only the jobs of this unit reach us: its name is the signal's third argument.
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface("org.freedesktop.systemd1.Manager")
            .member("JobRemoved")
            .arg(2, unit)
            .build()
            .map_err(failed)?;
        let listen = MessageStream::for_match_rule(rule, &self.connection, None);
        let mut ends = match timeout(super::PATIENCE, listen).await {
            Ok(ends) => ends.map_err(failed)?,
            Err(_) => return Err(SystemdError::Timeout { call: waiting(), after: super::PATIENCE }),
        };
        // On one connection systemd takes the calls in the order they are sent.
        let (subscribed, job) = tokio::join!(self.subscribe(), self.restart(unit));
        subscribed?;
        let job = job?;
        let end = async {
            while let Some(signal) = ends.next().await {
                let signal = signal.map_err(failed)?;
                let body = signal.body();
                let (_, path, _, result): (u32, OwnedObjectPath, &str, &str) =
                    body.deserialize().map_err(failed)?;
                if path.as_str() == job {
                    return Ok(match result {
                        "done" => JobOutcome::Done,
                        other => JobOutcome::Failed(other.to_owned()),
                    });
                }
            }
            Err(failed(zbus::Error::Failure("the bus went away".into())))
        };
        timeout(limit, end).await.unwrap_or(Ok(JobOutcome::StillRunning))
    }
}
