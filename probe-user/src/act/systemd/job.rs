//! Follows a job of systemd to its end.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::OwnedObjectPath;

use super::{
    error::SystemdError,
    link::{JobKind, Link},
};

/// A job's result, as systemd reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    Done,
    /// The result: failed, timeout, dependency (a unit that it needs did not start), canceled (another job took its
    /// place), skipped, …
    Failed(String),
    /// The caller's limit has passed.
    StillRunning,
}

/// Requests a job for a unit over a connection, and follows it to its end for at most `limit`.
pub(super) async fn run_and_wait(
    link: &Link,
    kind: JobKind,
    unit: &str,
    limit: Duration,
) -> Result<JobOutcome, SystemdError> {
    let waiting = || format!("following {}({unit})", kind.method());
    let failed = |source| SystemdError::Call { call: waiting(), source };
    let ends = link.job_ends(&waiting()).await?.filter_map(async |signal| {
        let end = signal.map_err(failed).and_then(|signal| {
            let body = signal.body();
            // The signal names the canonical unit, and `unit` may be an alias. The job's path is enough.
            let (_, path, _, result): (u32, OwnedObjectPath, &str, &str) =
                body.deserialize().map_err(failed)?;
            Ok((path.to_string(), result.to_owned()))
        });
        Some(end)
    });
    let mut ends = std::pin::pin!(ends);
    // systemd handles the calls of one connection in order.
    let mut accepted = std::pin::pin!(async { tokio::join!(link.subscribe(), link.enqueue(kind, unit)) });
    // The ends of other jobs must be read meanwhile: a full queue would hold back the answer.
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
        Err(failed(zbus::Error::Failure("the bus closed the connection".into())))
    };
    timeout(limit, end).await.unwrap_or(Ok(JobOutcome::StillRunning))
}
