//! Hedged attempts of one probe: while an attempt is unanswered for unusually long, a further one starts beside it.
//!
//! A hung probe would otherwise delay the next one by its whole timeout, and a silent service would be found only
//! after as many timeouts as `failures`. Each attempt has its own connection and its own whole timeout. The first
//! answer ends the other attempts, because a late answer still is one.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    clock::Timestamp,
    config::{Probe, protocol},
    fact::{Examination, ProbeKind, ProbeOutcome, ServiceId, Unanswered},
    probe::{Clients, Kept, Run, run},
};

/// An attempt may hang if it takes this number of times longer than usual…
const UNUSUAL: u32 = 10;

/// …and this part of its timeout. It also limits the number of attempts at a time.
const PART: u32 = 4;

/// Within this time a service has noticed an attempt, and sleeps again if it has nothing else to do.
const NOTED: Duration = Duration::from_millis(10);

/// An examination takes this much longer than the time between its samples, unless the host is very busy.
const SAMPLING: Duration = Duration::from_millis(50);

/// An attempt is late this long before it times out, or a [`PART`] of its timeout if that is shorter.
const LATE: Duration = Duration::from_millis(250);

/// An answer moves the usual response time by one part in this number.
const MEMORY: u32 = 8;

type Attempt = Pin<Box<dyn Future<Output = Run> + Send>>;

/// The running attempts of a probe, and the usual time of earlier ones.
pub(super) struct Attempts {
    probe: Arc<Probe>,
    clients: Clients,
    under_way: Vec<Attempt>,
    latest: Instant,
    /// The attempts started since the last answer. Hedged attempts never exceed `failures`, because a silent service
    /// need not be asked more often than others.
    unanswered: u32,
    /// When the first of them began.
    first: Option<(Instant, Timestamp)>,
    /// The usual time of an answer. Before the first answer, nothing is unusual.
    usual: Option<Duration>,
    silence: SilenceReports,
    /// When it is to be reported that two attempts wait, and until when no third one is to wake the service.
    twice_at: Option<Instant>,
    examined_until: Option<Instant>,
    /// When it is to be reported that the service is silent to all attempts.
    report_at: Option<Instant>,
    /// When it is to be reported that an attempt is about to time out.
    late_at: Option<Instant>,
}

/// What is seen of a service only while an attempt still waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Two attempts wait, and the first one will for longer than an examination takes. The daemon then looks whether the
    /// service can answer at all.
    Twice(Box<Unanswered>),
    /// As many attempts as `failures` wait. The daemon then samples its processes before the first one times out.
    Whole(ServiceId),
    /// An attempt is about to time out. The daemon then looks whether the service waits for another server meanwhile.
    Late(ServiceId),
}

impl Silence {
    pub fn service(&self) -> ServiceId {
        match self {
            Self::Twice(unanswered) => unanswered.service,
            Self::Whole(service) | Self::Late(service) => *service,
        }
    }
}

#[derive(Debug)]
pub(super) struct SilenceReports {
    pub(super) service: ServiceId,
    pub(super) index: usize,
    pub(super) target: String,
    pub(super) reports: mpsc::Sender<Silence>,
}

impl SilenceReports {
    fn report(&self, silence: Silence) {
        // If the channel is full, the evidence is missing, or comes later.
        let _ = self.reports.try_send(silence);
    }

    fn report_twice(&self, kind: ProbeKind, since: Timestamp) {
        let Self { service, index, ref target, .. } = *self;
        self.report(Silence::Twice(Box::new(Unanswered {
            service,
            index,
            kind,
            target: target.clone(),
            since,
        })));
    }
}

impl Attempts {
    pub(super) fn new(probe: Arc<Probe>, clients: Clients, silence: SilenceReports) -> Self {
        Self {
            probe,
            clients,
            under_way: Vec::new(),
            latest: Instant::now(),
            unanswered: 0,
            first: None,
            usual: None,
            silence,
            twice_at: None,
            examined_until: None,
            report_at: None,
            late_at: None,
        }
    }

    pub(super) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Ends the running attempts without a report.
    pub(super) fn cancel(&mut self) {
        self.under_way.clear();
        (self.unanswered, self.first) = (0, None);
        (self.twice_at, self.examined_until, self.report_at, self.late_at) = (None, None, None, None);
    }

    /// Ends the running attempts, and forgets the usual time: the service has restarted.
    pub(super) fn reset(&mut self) {
        self.cancel();
        self.usual = None;
    }

    /// Starts a further attempt beside the hung ones, up to the limit.
    pub(super) fn begin_another(&mut self) {
        if self.any_under_way() && self.under_way.len() < PART as usize {
            self.begin();
        }
    }

    /// The outcome of the next attempt to end. Starts one if none is running.
    pub(super) async fn next(&mut self, kept: &mut Kept) -> Run {
        if !protocol(self.probe.kind).attempts_may_overlap {
            let mut run = pin!(run(&self.probe, &self.clients, kept));
            tokio::select! {
                run = &mut run => return run,
                () = sleep_until(Instant::now() + self.probe.timeout - self.margin()) => {}
            }
            self.silence.report(Silence::Late(self.silence.service));
            return run.await;
        }
        if self.under_way.is_empty() {
            self.begin();
        }
        let run = loop {
            let (further, twice_at) = (self.further(), self.twice_at);
            let (report_at, late_at, service) = (self.report_at, self.late_at, self.silence.service);
            tokio::select! {
                run = first_to_end(&mut self.under_way) => break run,
                () = until(further) => self.begin_further(),
                () = until(twice_at) => {
                    self.twice_at = None;
                    if let Some((_, since)) = self.first {
                        self.silence.report_twice(self.probe.kind, since);
                    }
                }
                () = until(report_at) => {
                    self.report_at = None;
                    self.silence.report(Silence::Whole(service));
                }
                () = until(late_at) => {
                    self.late_at = None;
                    self.silence.report(Silence::Late(service));
                }
            }
        };
        if !run.outcome.is_timeout() {
            // This holds for a refusal or a wrong status too: a process that ends resets all its connections, which is
            // one failure and not several.
            self.cancel();
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
        self.late_at.get_or_insert(self.latest + self.probe.timeout - self.margin());
        self.unanswered = self.unanswered.saturating_add(1);
        self.first.get_or_insert_with(|| (self.latest, Timestamp::now()));
    }

    fn begin_further(&mut self) {
        self.begin();
        let noted = self.latest + NOTED;
        // With a larger interval between the attempts, there is time for both samples after the first one has ended.
        let hurry = self.patience().is_some_and(|patience| patience < Examination::OVER);
        if hurry && self.unanswered == self.probe.failures.min(PART - 1) {
            self.report_at = Some(noted);
        }
        let examined = noted + Examination::OVER_BEFORE_TIMEOUT + SAMPLING;
        let is_in_time = self.first.is_some_and(|(first, _)| examined < first + self.probe.timeout);
        if !hurry && is_in_time && self.unanswered == 2 {
            (self.twice_at, self.examined_until) = (Some(noted), Some(examined));
        }
    }

    /// The time before an attempt's timeout that it is late from.
    fn margin(&self) -> Duration {
        (self.probe.timeout / PART).min(LATE)
    }

    /// When a further attempt is due if those under way stay unanswered.
    fn further(&self) -> Option<Instant> {
        let patience = self.patience()?;
        let wanted = self.unanswered < self.probe.failures && patience < self.probe.timeout;
        // A further attempt would wake what is to be seen asleep.
        wanted.then(|| self.examined_until.max(Some(self.latest + patience))).flatten()
    }

    /// The longest wait for the latest attempt before a further one starts.
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
