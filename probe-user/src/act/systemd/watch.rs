//! Watches units for changes.
//!
//! A signal only says that a unit is worth reading again: what it carries is older than what a question
//! brings, and a restart alone sends a dozen. All signals that have arrived are taken first, then each unit
//! is read once.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::mpsc;
use zbus::{Message, MessageStream};

use super::{Systemd, SystemdError, link::Link, state::object_path};
use crate::{
    clock::Timestamp,
    fact::{ServiceId, UnitState},
};

/// The bus limits how many rules a connection may have (512 by default); with more units than this, all of
/// systemd's unit signals are taken and sorted here.
const MOST_RULES: usize = 256;

/// The bus limits how many answers a connection may wait for (128 by default).
const MOST_QUESTIONS: usize = 32;

/// The wait before connecting again; it doubles with each failure up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A unit is in a new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitChange {
    /// The service it belongs to.
    pub service: ServiceId,
    /// The state, as read after the change.
    pub state: UnitState,
}

/// Why listening ended.
enum End {
    /// The receiver of the changes was dropped.
    NoReceiver,
    /// The bus or systemd does not answer, and is tried again.
    Lost(SystemdError),
}

impl From<SystemdError> for End {
    fn from(error: SystemdError) -> Self {
        Self::Lost(error)
    }
}

impl Systemd {
    /// Sends each unit's state once, then whenever it changes, until the receiver is dropped.
    ///
    /// When the bus goes away it connects again, with growing waits, and reads every unit: what changed
    /// in between is sent then.
    pub async fn watch(&self, units: Vec<(ServiceId, String)>, changes: mpsc::Sender<UnitChange>) {
        let mut paths = HashMap::<_, Vec<_>>::new();
        for (at, (_, unit)) in units.iter().enumerate() {
            paths.entry(object_path(unit)).or_default().push(at);
        }
        let known = units.iter().map(|_| None).collect();
        let mut watch = Watch { units, paths, known, changes };
        let mut wait = FIRST_WAIT;
        loop {
            let began = Timestamp::now();
            let Err(end) = watch.listen(self).await;
            let End::Lost(error) = end else { return };
            if Timestamp::now().since(began) > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            // Once is worth a line; a host whose bus stays away would fill the log with it.
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

/// What is watched, and what was last said of it.
struct Watch {
    units: Vec<(ServiceId, String)>,
    /// Which units an object path stands for.
    paths: HashMap<String, Vec<usize>>,
    known: Vec<Option<UnitState>>,
    changes: mpsc::Sender<UnitChange>,
}

impl Watch {
    async fn listen(&mut self, systemd: &Systemd) -> Result<Infallible, End> {
        let ear = Link::open(systemd.address.as_deref()).await?;
        for rule in self.rules() {
            ear.add_match(&rule).await?;
        }
        ear.subscribe().await?;
        // Signals are kept for us from here on, and reading every unit after it makes up for those before.
        // Nothing is asked over this connection any more: full of signals, it would not pass the answer.
        let mut signals = MessageStream::from(&ear.connection);
        let mut dirty: BTreeSet<usize> = (0..self.units.len()).collect();
        loop {
            self.read(systemd, std::mem::take(&mut dirty)).await?;
            let mut next = tokio::select! {
                signal = signals.next() => signal,
                () = self.changes.closed() => return Err(End::NoReceiver),
            };
            loop {
                let Some(Ok(signal)) = next else { return Err(lost("the bus closed the connection")) };
                self.concerns(&signal, &mut dirty)?;
                match signals.next().now_or_never() {
                    Some(signal) => next = signal,
                    None => break,
                }
            }
        }
    }

    /// Marks the units that a signal is about.
    fn concerns(&self, signal: &Message, dirty: &mut BTreeSet<usize>) -> Result<(), End> {
        let header = signal.header();
        match header.member().map(|member| member.as_str()) {
            Some("PropertiesChanged") => {
                let path = header.path().map(|path| path.as_str()).unwrap_or_default();
                dirty.extend(self.paths.get(path).into_iter().flatten());
                Ok(())
            }
            // Settings such as RestartSec= may be different after a reload.
            Some("Reloading") => {
                if signal.body().deserialize::<bool>().is_ok_and(|begins| !begins) {
                    dirty.extend(0..self.units.len());
                }
                Ok(())
            }
            // systemd came to the bus anew and may know of no subscribers, or it went.
            Some("NameOwnerChanged") => Err(lost("systemd left the bus, or came back to it")),
            _ => Ok(()),
        }
    }

    /// Reads units and passes on those that changed.
    async fn read(&mut self, systemd: &Systemd, dirty: BTreeSet<usize>) -> Result<(), End> {
        let units = &self.units;
        let read = dirty.into_iter().map(async |at| (at, systemd.unit_state(&units[at].1).await));
        let mut read = std::pin::pin!(stream::iter(read).buffered(MOST_QUESTIONS));
        while let Some((at, state)) = read.next().await {
            let state = match state {
                Ok(state) => state,
                Err(error) if error.is_lost() => return Err(error.into()),
                // One bad name must not blind the rest.
                Err(error) => {
                    tracing::warn!("{}: cannot read the state of the unit: {error}", self.units[at].1);
                    continue;
                }
            };
            if !self.known[at].as_ref().is_some_and(|known| same(known, &state)) {
                self.known[at] = Some(state.clone());
                let service = self.units[at].0;
                let sent = self.changes.send(UnitChange { service, state }).await;
                sent.map_err(|_| End::NoReceiver)?;
            }
        }
        Ok(())
    }

    fn rules(&self) -> Vec<String> {
        const SYSTEMD: &str = "type='signal',sender='org.freedesktop.systemd1'";
        const CHANGED: &str = "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'";
        let mut rules = vec![
            format!("{SYSTEMD},interface='org.freedesktop.systemd1.Manager',member='Reloading'"),
            "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
             member='NameOwnerChanged',arg0='org.freedesktop.systemd1'"
                .to_owned(),
        ];
        if self.paths.len() > MOST_RULES {
            rules.push(format!("{SYSTEMD},{CHANGED},path_namespace='/org/freedesktop/systemd1/unit'"));
        } else {
            rules.extend(self.paths.keys().map(|path| format!("{SYSTEMD},{CHANGED},path='{path}'")));
        }
        rules
    }
}

/// Whether two readings are of one state. Moments are left out: they are translated to our clock anew each
/// time, and none changes alone.
fn same(known: &UnitState, state: &UnitState) -> bool {
    let UnitState { at, main_started, main_exited, active_exit, changed, .. } = *state;
    UnitState { at, main_started, main_exited, active_exit, changed, ..known.clone() } == *state
}

fn lost(why: &str) -> End {
    let source = zbus::Error::Failure(why.into());
    End::Lost(SystemdError::Call { call: "watching the units".into(), source })
}
