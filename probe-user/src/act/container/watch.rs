//! Watches containers for changes.
//!
//! An event is a reason to read its container. Reads go on beside the stream, one for each container at a time, and a
//! flood of events costs no more than [`EVENTS_PER_SECOND`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{Containers, engine::Engine, error::EngineError, socket::Lines};
use crate::{
    act::systemd::UnitChange,
    clock::Timestamp,
    config::Container,
    fact::{ServiceId, UnitState},
};

/// A host that makes and removes ten containers a second has a hundred events a second.
const EVENTS_PER_SECOND: u32 = 1000;

/// Lines that are no events, after which the connection is given up.
const GARBAGE_MAX: u32 = 100;

/// The wait before a reconnect. It doubles with each failure up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// An engine may lose events, so each container is read this often in any case.
const REREAD: Duration = Duration::from_secs(30);

/// Two reads of a container for events are at least so far apart. The first event is followed at once.
const READS_APART: Duration = Duration::from_millis(100);

/// The reads under way. Further ones wait.
const READS_MAX: usize = 16;

impl Containers {
    /// Sends each container's state once and after each change, until the receiver is dropped.
    ///
    /// After a lost connection it reconnects, with growing waits, asks for the events in between, and reads every
    /// container.
    pub async fn watch(self, containers: Vec<(ServiceId, Container)>, changes: mpsc::Sender<UnitChange>) {
        let mut streams = JoinSet::new();
        let (names, mut changed) = mpsc::channel(1024);
        for engine in self.engines.clone() {
            streams.spawn(follow(engine, names.clone()));
        }
        drop(names);
        let mut watch = Watch {
            dirty: (0..containers.len()).collect(),
            known: containers.iter().map(|_| None).collect(),
            busy: BTreeSet::new(),
            read_at: containers.iter().map(|_| None).collect(),
            by_name: by_name(&containers),
            containers: Arc::new(containers),
            engines: self,
            reads: JoinSet::new(),
        };
        let mut reread = interval(REREAD);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            watch.start_reads();
            tokio::select! {
                Some(name) = changed.recv() => watch.mark(name.as_deref()),
                Some(Ok((at, read))) = watch.reads.join_next() => {
                    if let Some(change) = watch.on_read(at, read)
                        && changes.send(change).await.is_err() {
                        return;
                    }
                }
                _ = reread.tick() => watch.mark(None),
                () = changes.closed() => return,
            }
        }
    }
}

fn by_name(containers: &[(ServiceId, Container)]) -> HashMap<String, Vec<usize>> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (_, container)) in containers.iter().enumerate() {
        by_name.entry(container.name.clone()).or_default().push(at);
    }
    by_name
}

type Read = Result<UnitState, EngineError>;

struct Watch {
    engines: Containers,
    containers: Arc<Vec<(ServiceId, Container)>>,
    by_name: HashMap<String, Vec<usize>>,
    /// The last state that was sent.
    known: Vec<Option<UnitState>>,
    dirty: BTreeSet<usize>,
    /// Those whose read is under way.
    busy: BTreeSet<usize>,
    /// When each was read last.
    read_at: Vec<Option<Instant>>,
    reads: JoinSet<(usize, Read)>,
}

impl Watch {
    /// Marks the containers that an event is about; all of them without a name.
    fn mark(&mut self, name: Option<&str>) {
        let Some(name) = name else {
            self.dirty.extend(0..self.containers.len());
            return;
        };
        self.dirty.extend(self.by_name.get(name).into_iter().flatten());
        // Those that share its network namespace.
        let shares = |known: &Option<UnitState>| {
            let container = known.as_ref().and_then(|state| state.container.as_ref());
            container.is_some_and(|it| it.network_of.as_deref() == Some(name))
        };
        let sharing = self.known.iter().enumerate().filter(|(_, known)| shares(known)).map(|(at, _)| at);
        self.dirty.extend(sharing);
    }

    fn start_reads(&mut self) {
        let free: Vec<usize> = self.dirty.difference(&self.busy).copied().collect();
        for at in free {
            if self.reads.len() >= READS_MAX {
                return;
            }
            self.dirty.remove(&at);
            self.busy.insert(at);
            let (engines, containers) = (self.engines.clone(), Arc::clone(&self.containers));
            let last = self.read_at.get(at).copied().flatten();
            let rest = last.map(|last| READS_APART.saturating_sub(last.elapsed())).unwrap_or_default();
            self.reads.spawn(async move {
                sleep(rest).await;
                let Some((_, container)) = containers.get(at) else {
                    return (at, Err(EngineError::NoSocket));
                };
                (at, engines.state(container).await)
            });
        }
    }

    /// The change that a read found.
    fn on_read(&mut self, at: usize, read: Read) -> Option<UnitChange> {
        self.busy.remove(&at);
        if let Some(read_at) = self.read_at.get_mut(at) {
            *read_at = Some(Instant::now());
        }
        let (service, container) = self.containers.get(at)?;
        let state = match read {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!("{}: cannot read the state of the container: {error}", container.name);
                return None;
            }
        };
        let known = self.known.get_mut(at)?;
        if known.as_ref().is_some_and(|known| same(known, &state)) {
            return None;
        }
        *known = Some(state.clone());
        Some(UnitChange { service: *service, state })
    }
}

/// Whether two readings show one state. Each translates the moments of the wall clock again.
fn same(known: &UnitState, state: &UnitState) -> bool {
    let key = |state: &UnitState| {
        let UnitState { active, sub, result, load, invocation_id, restarts, main, main_pid, .. } =
            state.clone();
        let container = state.container.as_deref().cloned().map(|container| {
            let health = container.health.map(|health| (health.status, health.failures > 0));
            let (lost, request) = (container.network_lost, container.request);
            (container.id, health, lost, request, container.oom_killed, container.exit_code)
        });
        ((active, sub, result, load, invocation_id), (restarts, main, main_pid), container)
    };
    key(known) == key(state)
}

/// Follows the events of an engine, until the receiver is dropped. Sends the names of containers that may have changed, and None
/// after each connection.
async fn follow(engine: Arc<Engine>, names: mpsc::Sender<Option<String>>) {
    let (mut wait, mut since) = (FIRST_WAIT, jiff::Timestamp::now());
    let (mut was_connected, mut has_warned) = (false, false);
    loop {
        let began = Timestamp::now();
        let lost = match connect(&engine, since).await {
            Ok(lines) => {
                if !was_connected {
                    let path = engine.path().display();
                    tracing::info!("{path}: {} answers", engine.kind().name());
                }
                was_connected = true;
                engine.set_listens(true);
                if names.send(None).await.is_err() {
                    return;
                }
                match listen(&engine, lines, &names, &mut since).await {
                    None => return,
                    Some(why) => why,
                }
            }
            Err(error) => {
                if error.is_forbidden() && !std::mem::replace(&mut has_warned, true) {
                    tracing::warn!(
                        "{error}; the daemon writes to files of root alone: let the socket have mode 0660 and a group that \
                         SupplementaryGroups= gives to the daemon"
                    );
                }
                error.to_string()
            }
        };
        engine.set_listens(false);
        if Timestamp::now().since(began) > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        // A host has one engine most often. Only one that has answered is missed.
        if std::mem::take(&mut was_connected) {
            tracing::warn!(
                "{}: lost the connection that reports changes of containers, connecting again: {lost}",
                engine.path().display()
            );
        } else {
            tracing::debug!("{}: no connection, next try in {wait:?}: {lost}", engine.path().display());
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = names.closed() => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn connect(engine: &Engine, since: jiff::Timestamp) -> Result<Lines, EngineError> {
    engine.identify().await?;
    engine.events(since).await
}

/// Reads events until the connection ends, and returns why; None if the receiver was dropped.
async fn listen(
    engine: &Engine,
    mut lines: Lines,
    names: &mpsc::Sender<Option<String>>,
    since: &mut jiff::Timestamp,
) -> Option<String> {
    let (mut second, mut events, mut garbage) = (Instant::now(), 0_u32, 0_u32);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = names.closed() => return None,
        };
        let line = match line {
            Ok(line) => line,
            Err(error) => return Some(error.to_string()),
        };
        *since = jiff::Timestamp::now();
        match engine.on_event(&line) {
            Ok(Some(name)) => names.send(Some(name)).await.ok()?,
            Ok(None) => {}
            Err(error) => {
                garbage += 1;
                if garbage > GARBAGE_MAX {
                    return Some(format!("it sends what is no event: {error}"));
                }
            }
        }
        events += 1;
        if events >= EVENTS_PER_SECOND {
            // The engine waits meanwhile, or drops events of its own.
            let over = Duration::from_secs(1).saturating_sub(second.elapsed());
            sleep(over).await;
            (second, events) = (Instant::now(), 0);
        } else if second.elapsed() > Duration::from_secs(1) {
            (second, events) = (Instant::now(), 1);
        }
    }
}
