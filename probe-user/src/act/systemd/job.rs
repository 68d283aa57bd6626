//! Following a job of systemd to its end.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::OwnedObjectPath;

use super::{error::SystemdError, link::Link};

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

/// Restarts a unit over a connection, and follows the job to its end for at most `limit`.
pub(super) async fn restart_and_wait(
    link: &Link,
    unit: &str,
    limit: Duration,
) -> Result<JobOutcome, SystemdError> {
    let waiting = || format!("following the restart of {unit}");
    let failed = |source| SystemdError::Call { call: waiting(), source };
    let ends = link.job_ends(&waiting()).await?.filter_map(async |signal| {
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
    let mut accepted = std::pin::pin!(async { tokio::join!(link.subscribe(), link.restart(unit)) });
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
