//! The timeout of a run, without the time in which the daemon itself did not run.
//!
//! A thread that waits for a CPU sends a request late and reads the answer late, which is no silence of the service. A run gets
//! back what its own thread has waited for, up to its timeout once more. If that was not enough, the service had less than its
//! timeout, and the run says so.

use std::{fs, future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

/// Usual answers come within this part of the timeout, and cost no reading.
const USUAL: u32 = 8;

/// Timers have whole milliseconds.
const LATE_TIMER: Duration = Duration::from_millis(2);

/// Less than this part of the timeout is not given back.
const LEAST: u32 = 64;

/// No answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// How long the daemon itself did not run, if that left the service less than the timeout.
    pub(super) hurried: Option<Duration>,
}

/// Waits for `asking`. Takes at most twice the timeout, and more than the timeout only if the daemon has been kept from running.
pub(super) async fn within<F: Future>(timeout: Duration, asking: F) -> Result<F::Output, NoAnswer> {
    within_by(timeout, asking, own_run_delay).await
}

/// The same with what has the time that this thread has waited for a CPU.
async fn within_by<F: Future>(
    timeout: Duration,
    asking: F,
    waited: impl Fn() -> Duration,
) -> Result<F::Output, NoAnswer> {
    let mut asking = pin!(asking);
    let began = Instant::now();
    let first = began + timeout / USUAL;
    if let Ok(answer) = timeout_at(first, asking.as_mut()).await {
        return Ok(answer);
    }
    // A process that was stopped waits for no CPU, but its timers are late.
    let mut late = first.elapsed();
    let (before, late_before) = (waited(), late);
    let mut due = began + timeout;
    loop {
        if let Ok(answer) = timeout_at(due, asking.as_mut()).await {
            return Ok(answer);
        }
        late += due.elapsed().saturating_sub(LATE_TIMER);
        let lost = late.max(late_before + waited().saturating_sub(before));
        let fair = began + timeout + lost.min(timeout);
        if fair < Instant::now() + timeout / LEAST {
            return Err(NoAnswer { hurried: (lost > timeout).then_some(lost) });
        }
        due = fair;
    }
}

/// How long this thread has waited for a CPU since it began: the second number of its `schedstat`
/// (Documentation/scheduler/sched-stats.rst). Zero where the kernel does not count it.
fn own_run_delay() -> Duration {
    // Tests have a clock of their own, beside which real waits mean nothing.
    if cfg!(test) {
        return Duration::ZERO;
    }
    run_delay(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
}

fn run_delay(schedstat: &str) -> Duration {
    let nanos = schedstat.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a run does that is answered after so many milliseconds, while its thread waits so many parts in 100 of the time.
    async fn run(answered: Option<u64>, share: u32) -> (Result<(), NoAnswer>, Duration) {
        let began = Instant::now();
        let asking = async {
            match answered {
                Some(millis) => sleep(Duration::from_millis(millis)).await,
                None => pending().await,
            }
        };
        let ended = within_by(SECOND, asking, || began.elapsed() * share / 100).await;
        (ended, began.elapsed())
    }

    fn about(took: Duration, millis: u64) -> bool {
        took.abs_diff(Duration::from_millis(millis)) < Duration::from_millis(40)
    }

    #[test]
    fn the_wait_for_a_cpu_is_the_second_number() {
        assert_eq!(run_delay("1500 2500 9\n"), Duration::from_nanos(2500));
        for none in ["", "1500", "a b c"] {
            assert_eq!(run_delay(none), Duration::ZERO);
        }
        assert!(
            fs::read_to_string("/proc/thread-self/schedstat").is_ok_and(|text| text.split(' ').count() == 3)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_runs_gives_a_service_its_timeout_and_no_more() {
        assert_eq!(run(Some(999), 0).await.0, Ok(()));
        let (ended, took) = run(None, 0).await;
        assert!(ended == Err(NoAnswer { hurried: None }) && about(took, 1000), "{ended:?} {took:?}");
        let (ended, took) = run(None, 1).await;
        assert!(ended == Err(NoAnswer { hurried: None }) && about(took, 1000), "{ended:?} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_daemon_waited_for_a_cpu_is_given_back() {
        assert_eq!(run(Some(1500), 40).await.0, Ok(()), "the service took 0.9 s");
        let (ended, took) = run(None, 40).await;
        let NoAnswer { hurried } = ended.unwrap_err();
        assert!(hurried.is_none() && took > Duration::from_millis(1500), "{hurried:?} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_had_less_than_its_timeout_is_not_silent() {
        let (ended, took) = run(None, 90).await;
        let hurried = ended.unwrap_err().hurried.unwrap();
        assert!(hurried > SECOND && about(took, 2000), "{hurried:?} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_was_stopped_counts_as_one_that_waited() {
        let polled = Cell::new(0);
        let stopped = std::future::poll_fn(|_| {
            polled.set(polled.get() + 1);
            std::task::Poll::<()>::Pending
        });
        let run = within_by(SECOND, stopped, || Duration::ZERO);
        let stop = async {
            tokio::time::advance(Duration::from_secs(10)).await;
            pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = run => ended,
            () = stop => unreachable!(),
        };
        assert!(ended.unwrap_err().hurried.is_some_and(|it| it > 8 * SECOND), "{ended:?}");
        assert!(polled.get() >= 2, "an answer that is there would have been read");
    }
}
