//! One exchange with a receiver, on a thread of its own.
//!
//! An answer can keep a client's library busy until the timeout: interim responses without end cost a whole core, and
//! the library reads some 50 MB of them before anything else on its thread has a turn. On its own thread that costs the
//! loop nothing, and the exchange ends at that turn if it has used more CPU time than any honest answer takes.

use std::time::Duration;

use tokio::{
    runtime::Builder,
    select,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::bounded_thread;

/// A TLS handshake takes a few milliseconds, and some tens without optimizations.
const CPU_MAX: Duration = Duration::from_millis(100);

/// How often the CPU time is read.
const LOOK: Duration = Duration::from_millis(10);

/// Beyond the timeout of the exchange itself, which ends it with a better reason.
const SPARE: Duration = Duration::from_secs(1);

/// What `exchange` makes of what `prepare` has made. The latter may block, and its CPU time does not count.
pub(super) async fn run<P, T, F>(
    timeout: Duration,
    prepare: impl FnOnce() -> Result<P, String> + Send + 'static,
    exchange: impl FnOnce(P) -> F + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>>,
{
    let work = move || {
        // The time driver has its turn after every task, however busy they are.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build();
        let runtime = runtime.map_err(|error| format!("cannot send: {error}"))?;
        let prepared = prepare()?;
        let answer = runtime.block_on(async {
            select! {
                answer = exchange(prepared) => answer,
                () = cpu_time_is_used_up() => Err("the receiver sends without end, and never gets to its answer".to_owned()),
                () = sleep(timeout + SPARE / 2) => Err(format!("no answer within {timeout:?}")),
            }
        });
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        answer
    };
    let answer = bounded_thread::answer("alert", timeout + SPARE, work).await;
    answer.unwrap_or_else(|error| Err(format!("cannot send: {error}")))
}

/// Ends once this thread has used all that an exchange may.
async fn cpu_time_is_used_up() {
    let used = || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime));
    let most = used().map_or(CPU_MAX, |before| before + CPU_MAX);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while used().is_ok_and(|used| used < most) {
        looks.tick().await;
    }
}
