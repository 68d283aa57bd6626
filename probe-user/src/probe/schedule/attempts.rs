//! The attempts of one probe: while one is unanswered for unusually long, further ones are begun beside it.
//!
//! A probe that hangs would otherwise keep the next one waiting for its whole timeout, and a service that is
//! silent would be found after as many timeouts as failures are wanted. Each attempt has its own connection and
//! its own whole timeout. The first that is answered ends the others: late is not silent.

use std::{
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    config::{Probe, protocol},
    fact::{Examination, ProbeOutcome, ServiceId},
    probe::{Clients, Kept, Run, run},
};

/// An attempt that takes so many times longer than usual may hang…
const UNUSUAL: u32 = 10;

/// …if it takes this part of its timeout as well. It also bounds how many attempts are under way together.
const PART: u32 = 4;

/// Within this long a service has taken note of an attempt, and sleeps again if it has nothing else to do.
const NOTED: Duration = Duration::from_millis(10);

/// One of how many answers the usual response time follows.
const MEMORY: u32 = 8;

type Attempt = Pin<Box<dyn Future<Output = Run> + Send>>;

/// The attempts of a probe that are under way, and what is known of earlier ones.
pub(super) struct Attempts {
    probe: Arc<Probe>,
    clients: Clients,
    under_way: Vec<Attempt>,
    latest: Instant,
    /// How many were begun since one was last answered: those that are begun ahead of time are not more than
    /// failures are wanted, since a service that stays silent need not be asked more often than others.
    unanswered: u32,
    /// How long an answer usually takes. Without one so far, nothing is unusual.
    usual: Option<Duration>,
    silence: Silence,
    /// When the silence is to be reported.
    report_at: Option<Instant>,
}

/// Reports that a service is silent to as many attempts as failures are wanted, while all of them still wait. The daemon
/// then knows what its processes do before the first attempt times out.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) service: ServiceId,
    pub(super) told: mpsc::Sender<ServiceId>,
}

impl Attempts {
    pub(super) fn new(probe: Arc<Probe>, clients: Clients, silence: Silence) -> Self {
        Self {
            probe,
            clients,
            under_way: Vec::new(),
            latest: Instant::now(),
            unanswered: 0,
            usual: None,
            silence,
            report_at: None,
        }
    }

    pub(super) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Ends those under way; they are not reported.
    pub(super) fn give_up(&mut self) {
        self.under_way.clear();
        self.unanswered = 0;
        self.report_at = None;
    }

    /// Gives up, and knows nothing more of how long the service takes: it is another one now.
    pub(super) fn begin_again(&mut self) {
        self.give_up();
        self.usual = None;
    }

    /// Begins another one beside those that hang, unless there are many.
    pub(super) fn ask_again(&mut self) {
        if self.any_under_way() && self.under_way.len() < PART as usize {
            self.begin();
        }
    }

    /// How the next attempt ends. Begins one if none is under way.
    pub(super) async fn next(&mut self, kept: &mut Kept) -> Run {
        if !protocol(self.probe.kind).attempts_may_overlap {
            return run(&self.probe, &self.clients, kept).await;
        }
        if self.under_way.is_empty() {
            self.begin();
        }
        let run = loop {
            let (further, tell_at) = (self.further(), self.report_at);
            tokio::select! {
                run = first_to_end(&mut self.under_way) => break run,
                () = until(further) => self.begin_further(),
                () = until(tell_at) => self.tell(),
            }
        };
        if !run.outcome.is_timeout() {
            // Also a refusal or a wrong status: a process that ends resets all its connections, which is one
            // failure and not several.
            self.give_up();
        }
        if run.outcome == ProbeOutcome::Ok {
            let took = run.took;
            self.usual = Some(self.usual.map_or(took, |usual| (usual * (MEMORY - 1) + took) / MEMORY));
        }
        run
    }

    fn begin(&mut self) {
        let (probe, clients) = (Arc::clone(&self.probe), self.clients.clone());
        self.under_way.push(Box::pin(async move { run(&probe, &clients, &mut Kept::default()).await }));
        self.latest = Instant::now();
        self.unanswered = self.unanswered.saturating_add(1);
    }

    fn begin_further(&mut self) {
        self.begin();
        // Where attempts end further apart, there is time for both samples after the first has ended.
        let hurry = self.patience().is_some_and(|patience| patience < Examination::OVER);
        if hurry && self.unanswered == self.probe.failures.min(PART - 1) {
            self.report_at = Some(self.latest + NOTED);
        }
    }

    fn tell(&mut self) {
        self.report_at = None;
        // Nobody has to hear of it: the examination only ends later then.
        let _ = self.silence.told.try_send(self.silence.service);
    }

    /// When a further attempt is due if those under way stay unanswered.
    fn further(&self) -> Option<Instant> {
        let patience = self.patience()?;
        let wanted = self.unanswered < self.probe.failures && patience < self.probe.timeout;
        wanted.then(|| self.latest + patience)
    }

    /// How long the latest attempt may be unanswered before a further one is begun.
    fn patience(&self) -> Option<Duration> {
        Some((self.usual? * UNUSUAL).max(self.probe.timeout / PART))
    }
}

async fn first_to_end(under_way: &mut Vec<Attempt>) -> Run {
    poll_fn(|context| {
        let ended = under_way.iter_mut().enumerate().find_map(|(index, attempt)| {
            match attempt.as_mut().poll(context) {
                Poll::Ready(run) => Some((index, run)),
                Poll::Pending => None,
            }
        });
        match ended {
            Some((index, run)) => {
                drop(under_way.remove(index));
                Poll::Ready(run)
            }
            None => Poll::Pending,
        }
    })
    .await
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
