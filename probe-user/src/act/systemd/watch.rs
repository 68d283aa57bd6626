//! Watches units for changes.
//!
//! A signal is only a reason to read its unit: its content is older than a read, and a restart sends a dozen
//! signals. The daemon waits for those that follow, then reads each unit once.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use zbus::{Message, MessageStream, ObjectPath};

use super::{
    Systemd, SystemdError,
    link::Link,
    state::{Properties, down_since, job, object_path},
};
use crate::{
    clock::Timestamp,
    fact::{EndedJob, ServiceId, UnitState},
};

/// The bus limits the rules of a connection (512 by default). With more units than this, the daemon takes the
/// signals of all units and sorts them itself.
const MOST_RULES: usize = 256;

/// The bus limits the pending replies of a connection (128 by default).
const MAX_PENDING_READS: usize = 32;

/// From the first signal of a change to the read of the unit. systemd does nothing else while it answers a read, and a restart
/// sends a signal with each of its steps.
const SETTLE: Duration = Duration::from_millis(3);

/// The same for a unit with a job, at most: the end of the job is read at once.
const JOB_SETTLE: Duration = Duration::from_millis(20);

/// Parts of the rules for signals.
const SYSTEMD: &str = "type='signal',sender='org.freedesktop.systemd1'";
const CHANGED: &str = "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'";

/// The wait before a reconnect. It doubles with each failure up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitChange {
    pub service: ServiceId,
    pub state: UnitState,
}

enum End {
    NoReceiver,
    /// The bus or systemd does not answer. The daemon reconnects.
    Lost(SystemdError),
}

impl From<SystemdError> for End {
    fn from(error: SystemdError) -> Self {
        Self::Lost(error)
    }
}

impl Systemd {
    /// Sends each unit's state once and after each change, until the receiver is dropped.
    ///
    /// After a lost connection it reconnects, with growing waits, and reads every unit, so it reports the changes
    /// in between.
    pub async fn watch(&self, units: Vec<(ServiceId, String)>, changes: mpsc::Sender<UnitChange>) {
        let ids = units.iter().map(|(_, unit)| unit.clone()).collect();
        let (known, jobs) =
            (units.iter().map(|_| None).collect(), units.iter().map(|_| Jobs::default()).collect());
        let mut watch = Watch { units, ids, paths: HashMap::new(), known, jobs, changes };
        let mut wait = FIRST_WAIT;
        loop {
            let began = Timestamp::now();
            let Err(end) = watch.listen(self).await;
            let error = match end {
                End::NoReceiver => return,
                End::Lost(error) => error,
            };
            if Timestamp::now().since(began) > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            // Only the first failure is a warning. A host without a bus would fill the log.
            if wait == FIRST_WAIT {
                tracing::warn!(
                    "systemd: lost the connection that reports unit changes, connecting again: {error}"
                );
            } else {
                tracing::debug!("systemd: still no connection, next try in {wait:?}: {error}");
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = watch.changes.closed() => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// The jobs of a unit.
#[derive(Clone, Default)]
struct Jobs {
    /// The latest that the unit named. A job that systemd drops as needless is never named.
    named: Option<NamedJob>,
    ended: Option<EndedJob>,
}

/// A job as a unit named it, with the unit's state at that moment.
#[derive(Clone, Copy)]
struct NamedJob {
    id: u32,
    /// When the unit's state had changed last, if it was down.
    down_since: Option<Timestamp>,
}

/// What a signal says of the watched units.
enum News {
    Nothing,
    Changed,
    JobRuns,
    JobEnded,
}

/// When the units that signals were about are read.
#[derive(Default)]
struct Due {
    /// The first of these signals.
    since: Option<Instant>,
    at: Option<Instant>,
}

impl Due {
    fn on_news(&mut self, news: News) {
        let now = Instant::now();
        let since = self.since.unwrap_or(now);
        let at = match news {
            News::Nothing => return,
            News::Changed => self.at.unwrap_or(since + SETTLE),
            News::JobRuns => since + JOB_SETTLE,
            News::JobEnded => now,
        };
        (self.since, self.at) = (Some(since), Some(at));
    }

    fn has_come(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    async fn comes(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// The watched units and their last reported states.
struct Watch {
    units: Vec<(ServiceId, String)>,
    /// Their canonical names. systemd sends signals on the paths of these only.
    ids: Vec<String>,
    /// The units of each object path.
    paths: HashMap<String, Vec<usize>>,
    known: Vec<Option<UnitState>>,
    jobs: Vec<Jobs>,
    changes: mpsc::Sender<UnitChange>,
}

impl Watch {
    async fn listen(&mut self, systemd: &Systemd) -> Result<Infallible, End> {
        let ear = Link::open(systemd.address.as_deref()).await?;
        self.map_paths();
        for rule in self.rules() {
            ear.add_match(&rule).await?;
        }
        ear.subscribe().await?;
        // From here on the connection queues signals, and the read of every unit makes up for earlier ones. A queue full
        // of signals would hold back the answer to a call, so a call over this connection goes with reads of signals.
        let mut signals = MessageStream::from(&ear.connection);
        let mut dirty: BTreeSet<usize> = (0..self.units.len()).collect();
        loop {
            let renamed = self.read(systemd, std::mem::take(&mut dirty)).await?;
            if !renamed.is_empty() {
                self.follow(renamed, &ear, &mut signals, &mut dirty).await?;
                continue;
            }
            let mut due = Due::default();
            while !due.has_come() {
                tokio::select! {
                    // All signals that are there come before the read.
                    biased;
                    signal = signals.next() => due.on_news(self.concerns(&received(signal)?, &mut dirty)?),
                    () = due.comes() => {}
                    () = self.changes.closed() => return Err(End::NoReceiver),
                }
            }
        }
    }

    fn map_paths(&mut self) {
        self.paths.clear();
        for (at, id) in self.ids.iter().enumerate() {
            self.paths.entry(object_path(id)).or_default().push(at);
        }
    }

    /// Whether one rule stands for the signals of all units.
    fn takes_all_signals(&self) -> bool {
        self.units.len() > MOST_RULES
    }

    /// Asks for the signals of units that turned out to have another canonical name. The connection stays: with another
    /// one, the jobs that end meanwhile would go unnoticed.
    async fn follow(
        &mut self,
        renamed: Vec<usize>,
        ear: &Link,
        signals: &mut MessageStream,
        dirty: &mut BTreeSet<usize>,
    ) -> Result<(), End> {
        self.map_paths();
        let paths: BTreeSet<String> = match self.takes_all_signals() {
            true => BTreeSet::new(),
            false => renamed.iter().map(|&at| object_path(&self.ids[at])).collect(),
        };
        let ask = async {
            for path in paths {
                ear.add_match(&change_of(&path)).await?;
            }
            Ok::<_, SystemdError>(())
        };
        let mut ask = std::pin::pin!(ask);
        loop {
            tokio::select! {
                asked = &mut ask => break asked?,
                signal = signals.next() => self.concerns(&received(signal)?, dirty).map(drop)?,
            }
        }
        dirty.extend(renamed);
        Ok(())
    }

    /// Marks the units that a signal is about.
    fn concerns(&mut self, signal: &Message, dirty: &mut BTreeSet<usize>) -> Result<News, End> {
        let header = signal.header();
        let mut news = News::Nothing;
        match header.member().map(|member| member.as_str()) {
            Some("PropertiesChanged") => {
                let path = header.path().map(|path| path.as_str()).unwrap_or_default();
                if let Some(units) = self.paths.get(path) {
                    news = News::Changed;
                    if let Some(job) = named_job(signal) {
                        news = News::JobRuns;
                        for &at in units {
                            // The first signal of a job shows the state before it.
                            self.jobs[at].named =
                                self.jobs[at].named.filter(|named| named.id == job.id).or(Some(job));
                        }
                    }
                    dirty.extend(units);
                }
            }
            Some("JobRemoved") => {
                let body = signal.body();
                if let Ok((id, _, unit, result)) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>() {
                    for &at in self.paths.get(&object_path(unit)).into_iter().flatten() {
                        if self.jobs[at].named.is_some_and(|named| named.id == id) {
                            let result = result.to_owned();
                            self.jobs[at].ended = Some(EndedJob { id, result, idle: false });
                            dirty.insert(at);
                            news = News::JobEnded;
                        }
                    }
                }
            }
            // A reload may change settings such as RestartSec=.
            Some("Reloading") if signal.body().deserialize::<bool>().is_ok_and(|begins| !begins) => {
                dirty.extend(0..self.units.len());
                news = News::Changed;
            }
            // systemd rejoined the bus and may have lost its subscribers, or it left.
            Some("NameOwnerChanged") => return Err(lost("systemd left the bus, or came back to it")),
            _ => {}
        }
        Ok(news)
    }

    /// Reads units and sends those that changed. Returns those of which the canonical name is another than was known.
    async fn read(&mut self, systemd: &Systemd, dirty: BTreeSet<usize>) -> Result<Vec<usize>, End> {
        let units = &self.units;
        let read = dirty.into_iter().map(async |at| (at, systemd.unit_state(&units[at].1).await));
        let mut read = std::pin::pin!(stream::iter(read).buffered(MAX_PENDING_READS));
        let mut renamed = Vec::new();
        while let Some((at, state)) = read.next().await {
            let mut state = match state {
                Ok(state) => state,
                Err(error) if error.is_lost() => return Err(error.into()),
                // One bad name must not stop the reads of the others.
                Err(error) => {
                    tracing::warn!("{}: cannot read the state of the unit: {error}", self.units[at].1);
                    continue;
                }
            };
            state.ended_job = self.jobs[at].ended(&state);
            if self.ids[at] != state.id {
                self.ids[at].clone_from(&state.id);
                renamed.push(at);
            }
            if !self.known[at].as_ref().is_some_and(|known| same(known, &state)) {
                self.known[at] = Some(state.clone());
                let service = self.units[at].0;
                let sent = self.changes.send(UnitChange { service, state }).await;
                sent.map_err(|_| End::NoReceiver)?;
            }
        }
        Ok(renamed)
    }

    fn rules(&self) -> Vec<String> {
        let mut rules = vec![
            format!("{SYSTEMD},interface='org.freedesktop.systemd1.Manager',member='Reloading'"),
            format!("{SYSTEMD},interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"),
            "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
             member='NameOwnerChanged',arg0='org.freedesktop.systemd1'"
                .to_owned(),
        ];
        if self.takes_all_signals() {
            rules.push(format!("{SYSTEMD},{CHANGED},path_namespace='/org/freedesktop/systemd1/unit'"));
        } else {
            rules.extend(self.paths.keys().map(|path| change_of(path)));
        }
        rules
    }
}

/// The rule for the changes of one unit.
fn change_of(path: &str) -> String {
    format!("{SYSTEMD},{CHANGED},path='{path}'")
}

fn received(signal: Option<zbus::Result<Message>>) -> Result<Message, End> {
    signal.and_then(Result::ok).ok_or_else(|| lost("the bus closed the connection"))
}

/// Whether two readings show one state. Moments are ignored: each reading translates them to the daemon's clock
/// again, and none changes alone.
fn same(known: &UnitState, state: &UnitState) -> bool {
    let UnitState { at, main_started, main_exited, active_exit, changed, started, ready, .. } = *state;
    let needs = state.needs.clone();
    UnitState { at, main_started, main_exited, active_exit, changed, started, ready, needs, ..known.clone() }
        == *state
}

/// The job that a change of a unit's properties names, if any.
fn named_job(signal: &Message) -> Option<NamedJob> {
    let body = signal.body();
    let (_, changed, _): (&str, Properties<'_>, Vec<&str>) = body.deserialize().ok()?;
    Some(NamedJob { id: job(&changed)?.0, down_since: down_since(&changed) })
}

impl Jobs {
    /// The latest ended job, of a unit in this state.
    fn ended(&self, state: &UnitState) -> Option<EndedJob> {
        // Each reading translates a moment again, which may differ by microseconds.
        const SAME: Duration = Duration::from_millis(1);
        let ended = self.ended.clone()?;
        let before = self.named.filter(|named| named.id == ended.id).and_then(|named| named.down_since);
        let is_down = matches!(state.active.as_str(), "failed" | "inactive") && state.job.is_none();
        let idle = is_down
            && before
                .zip(state.changed)
                .is_some_and(|(before, now)| now.since(before) < SAME && before.since(now) < SAME);
        Some(EndedJob { idle, ..ended })
    }
}

fn lost(why: &str) -> End {
    let source = zbus::Error::Failure(why.into());
    End::Lost(SystemdError::Call { call: "watching the units".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(due: &Due) -> Duration {
        let begun = Instant::now();
        due.comes().await;
        assert!(due.has_come());
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn units_are_read_after_the_signals_that_follow_or_at_the_end_of_a_job() {
        let mut due = Due::default();
        due.on_news(News::Nothing);
        assert!(!due.has_come() && due.at.is_none());

        due.on_news(News::Changed);
        tokio::time::advance(SETTLE / 2).await;
        due.on_news(News::Changed);
        assert!(waits(&due).await <= SETTLE / 2 + Duration::from_millis(1), "the first signal counts");

        let mut due = Due::default();
        due.on_news(News::Changed);
        due.on_news(News::JobRuns);
        due.on_news(News::Changed);
        assert!(waits(&due).await > SETTLE);

        let mut due = Due::default();
        due.on_news(News::JobRuns);
        due.on_news(News::JobEnded);
        due.on_news(News::Changed);
        assert!(due.has_come());
    }
}
