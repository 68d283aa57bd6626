//! Following a job of systemd to its end.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{task::JoinHandle, time::timeout};
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

/// Keeps the bus passing on the ends of jobs; taken back when it is dropped.
#[derive(Debug)]
pub(super) struct Hearing(JoinHandle<()>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Has the bus pass on the ends of jobs from now on, so that no restart has to wait for that first.
    pub(super) async fn hear_of_jobs(&self) -> Result<(), SystemdError> {
        let hear = async {
            let mut ends = self.job_ends("hearing of jobs").await?;
            // The bus is told once, as long as there is a stream of these signals; a restart has one of its own.
            Ok(Hearing(tokio::spawn(async move { while ends.next().await.is_some() {} })))
        };
        self.hearing.get_or_try_init(|| hear).await.map(drop)
    }

    async fn job_ends(&self, call: &str) -> Result<MessageStream, SystemdError> {
        let failed = |source| SystemdError::Call { call: call.to_owned(), source };
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface("org.freedesktop.systemd1.Manager")
            .member("JobRemoved")
            .build()
            .map_err(failed)?;
        let listen = MessageStream::for_match_rule(rule, &self.connection, None);
        match timeout(super::PATIENCE, listen).await {
            Ok(ends) => ends.map_err(failed),
            Err(_) => Err(SystemdError::Timeout { call: call.to_owned(), after: super::PATIENCE }),
        }
    }

    pub(super) async fn restart_and_wait(
        &self,
        unit: &str,
        limit: Duration,
    ) -> Result<JobOutcome, SystemdError> {
        let waiting = || format!("following the restart of {unit}");
        let failed = |source| SystemdError::Call { call: waiting(), source };
        let ends = self.job_ends(&waiting()).await?.filter_map(async |signal| {
            let told = signal.map_err(failed).and_then(|signal| {
                let body = signal.body();
                let (_, path, of, result): (u32, OwnedObjectPath, &str, &str) =
                    body.deserialize().map_err(failed)?;
                Ok((of == unit).then(|| (path.to_string(), result.to_owned())))
            });
            told.transpose()
        });
        let mut ends = std::pin::pin!(ends);
        // On one connection systemd takes the calls in the order they are sent.
        let mut accepted = std::pin::pin!(async { tokio::join!(self.subscribe(), self.restart(unit)) });
        // The ends of other jobs must not pile up before the answer, which would not be passed then.
        let mut early = Vec::new();
        let (subscribed, job) = loop {
            tokio::select! {
                accepted = &mut accepted => break accepted,
                Some(end) = ends.next() => early.push(end),
            }
        };
        subscribed?;
        let job = job?;
        let mut ends = futures_util::stream::iter(early).chain(ends);
        let end = async {
            while let Some(end) = ends.next().await {
                let (path, result) = end?;
                if path == job {
                    return Ok(match result.as_str() {
                        "done" => JobOutcome::Done,
                        _ => JobOutcome::Failed(result),
                    });
                }
            }
            Err(failed(zbus::Error::Failure("the bus went away".into())))
        };
        timeout(limit, end).await.unwrap_or(Ok(JobOutcome::StillRunning))
    }
}
