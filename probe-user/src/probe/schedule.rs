//! The schedule of probes: absolute ticks, immediate runs on request, fast repeats after a restart, and hedged
//! attempts beside a hung one.

mod attempts;
mod phases;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

pub use self::attempts::Silence;
use self::{
    attempts::{Attempts, SilenceReports},
    phases::{Phase, Phases},
};
use super::{Clients, Kept, heartbeat::Earlier};
use crate::{
    clock::Timestamp,
    config::{Probe, Service},
    fact::{ProbeOutcome, ProbeReport, ServiceId},
};

/// The first wait after a failed run during recovery, and the shortest of all.
///
/// The kernel announces a listener some microseconds before it can be connected to, so the very first
/// connect may still be refused.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// Starts probes. Each has its own task, so that a slow one delays no other.
#[derive(Debug)]
pub struct Prober {
    clients: Clients,
    phases: Phases,
    reports: mpsc::Sender<ProbeReport>,
    silences: mpsc::Sender<Silence>,
}

impl Prober {
    /// If `reports` is full, a probe delays its next run until there is room.
    pub fn new(
        clients: Clients,
        reports: mpsc::Sender<ProbeReport>,
        silences: mpsc::Sender<Silence>,
    ) -> Self {
        Self { clients, phases: Phases::default(), reports, silences }
    }

    /// An instant at which the first probes of each interval of whole seconds run, and at each second from then on.
    pub fn epoch(&self) -> Instant {
        self.phases.epoch()
    }

    /// Waits for the heartbeats of these services alone.
    pub fn wait_for_heartbeats(&self, services: &[Service]) {
        self.clients.heartbeats.configure(services, Earlier::default());
    }

    /// Starts the probe at `index` of a service; it runs until its handle is dropped. Needs a Tokio runtime.
    pub fn spawn(&mut self, service: ServiceId, index: usize, probe: Probe) -> ProbeHandle {
        let clients = self.clients.of(&probe);
        let interval = probe.interval.max(FIRST_WAIT);
        let orders = Arc::new(Orders::default());
        let task = Task {
            service,
            index,
            interval,
            phase: self.phases.next(interval),
            target: probe.target.to_string(),
            probe: Arc::new(probe),
            clients,
            reports: self.reports.clone(),
            silences: self.silences.clone(),
            orders: Arc::clone(&orders),
        };
        ProbeHandle { orders, task: tokio::spawn(task.keep_probing()).abort_handle() }
    }
}

/// A running probe; dropping it ends the probe.
#[derive(Debug)]
pub struct ProbeHandle {
    orders: Arc<Orders>,
    task: AbortHandle,
}

impl ProbeHandle {
    /// Runs now, or once more after the present run. During recovery the fast repeats start over.
    pub fn now(&self) {
        self.orders.give(|pending| pending.now = true);
    }

    /// Runs now and repeats fast until the first success: after 1, 2, 4, 8 … ms, at most the interval. A service that
    /// reports its start is probed at least each eighth of the time that its start has taken so far, so that its
    /// readiness is noticed soon.
    pub fn recover(&self) {
        self.orders.give(|pending| pending.recover = true);
    }

    /// Stops running until [`ProbeHandle::resume`]. The next present run to end still reports.
    pub fn pause(&self) {
        self.orders.give(|pending| pending.paused = true);
    }

    pub fn resume(&self) {
        self.orders.give(|pending| {
            pending.paused = false;
            pending.now = true;
        });
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The orders of a handle for its task.
#[derive(Debug, Default)]
struct Orders {
    pending: Mutex<PendingOrders>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct PendingOrders {
    now: bool,
    recover: bool,
    paused: bool,
}

impl Orders {
    fn give(&self, order: impl FnOnce(&mut PendingOrders)) {
        order(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The pending orders. During a pause they stay pending.
    fn take(&self) -> PendingOrders {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = *pending;
        if !taken.paused {
            *pending = PendingOrders::default();
        }
        taken
    }
}

struct Task {
    service: ServiceId,
    index: usize,
    interval: Duration,
    phase: Phase,
    target: String,
    probe: Arc<Probe>,
    clients: Clients,
    reports: mpsc::Sender<ProbeReport>,
    silences: mpsc::Sender<Silence>,
    orders: Arc<Orders>,
}

impl Task {
    async fn keep_probing(self) {
        // Ticks are counted from this one.
        let (first, interval) = (self.phase.first(), self.interval);
        let mut due = first;
        let mut recovery: Option<Recovery> = None;
        let orders = Arc::clone(&self.orders);
        let wake = move || orders.give(|pending| pending.now = true);
        let mut kept = Kept { wake: Some(Arc::new(wake)), ..Kept::default() };
        let silence = SilenceReports {
            service: self.service,
            index: self.index,
            target: self.target.clone(),
            reports: self.silences.clone(),
        };
        let mut attempts = Attempts::new(Arc::clone(&self.probe), self.clients.clone(), silence);
        let mut begun = first;
        loop {
            let orders = self.orders.take();
            if orders.paused {
                kept.close_sessions();
                attempts.cancel();
                self.orders.changed.notified().await;
                continue;
            }
            if orders.recover || (orders.now && recovery.is_some()) {
                recovery = Some(Recovery::begin());
                attempts.reset();
            } else if orders.now {
                attempts.begin_another();
            } else if !attempts.any_under_way() {
                tokio::select! {
                    () = self.orders.changed.notified() => continue,
                    () = sleep_until(due) => {}
                }
            }

            if !attempts.any_under_way() {
                begun = Instant::now();
            }
            let run = attempts.next(&mut kept).await;
            let (at, ended) = (Timestamp::now(), Instant::now());
            due = match &mut recovery {
                Some(recovery) if run.outcome != ProbeOutcome::Ok => {
                    ended + recovery.wait(&run.outcome, interval)
                }
                // This tick was delayed by a silent run. With an interval as long as the timeout, every second run
                // would be left out.
                None if run.outcome.is_timeout() && next_tick(first, interval, begun) <= ended => ended,
                Some(_) | None => {
                    recovery = None;
                    next_tick(first, interval, ended)
                }
            };
            let report = ProbeReport {
                service: self.service,
                index: self.index,
                at,
                kind: self.probe.kind,
                target: self.target.clone(),
                duration: run.took,
                outcome: run.outcome,
                hurried: run.hurried,
                remark: run.remark,
                server: run.server,
            };
            if self.reports.send(report).await.is_err() {
                return;
            }
        }
    }
}

/// The fast repeats after a restart.
struct Recovery {
    began: Instant,
    wait: Duration,
}

impl Recovery {
    fn begin() -> Self {
        Self { began: Instant::now(), wait: FIRST_WAIT }
    }

    /// The wait after a run without success.
    fn wait(&mut self, outcome: &ProbeOutcome, interval: Duration) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(interval);
        match outcome {
            ProbeOutcome::Starting(_) => wait.min((self.began.elapsed() / 8).max(FIRST_WAIT)),
            ProbeOutcome::Ok | ProbeOutcome::Failed(..) => wait,
        }
    }
}

/// The first tick after `now`. Ticks that passed meanwhile are left out, never made up for.
pub(crate) fn next_tick(first: Instant, interval: Duration, now: Instant) -> Instant {
    let Some(passed) = now.checked_duration_since(first) else { return first };
    let into = passed.as_nanos() % interval.as_nanos();
    now - Duration::from_nanos(u64::try_from(into).unwrap_or_default()) + interval
}

#[cfg(test)]
mod tests;
