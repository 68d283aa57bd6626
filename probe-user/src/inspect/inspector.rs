//! The engine's questions about processes. Each gets exactly one answer, even if nothing can be read.

mod silence;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    answer::Answer,
    blocking_reads::BlockingReads,
    changes,
    crash::Crashes,
    culprit::{Culprits, MemoryDeath},
    examine::Sample,
    hang_stacks::HangInspector,
    log_lines,
    memory_history::MemorySampler,
    oom_report::OomLog,
    oomd,
    snapshot::{Draft, Folder, Subject},
};
use crate::{
    bounded_thread::OneAtATime,
    clock::Timestamp,
    config::{Service, SnapshotOptions},
    engine::EarlySample,
    fact::{
        Examination, FaultContext, Holder, Process, ProcessExit, ProcessKey, Sender, ServiceId,
        process::whereabouts,
    },
    host::{Awaited, LeftProcesses, OutputRun, ProcReader, Survey, holder::Client},
    outcomes::Outcomes,
    stacks::ServiceNames,
};

/// The longest sample. It takes this long on a host under high pressure.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The limit for the collection of a snapshot, and the limit for its write.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The limit for the context of a fault.
const CONTEXT_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of exits kept for each service.
const EXITS_MAX: usize = 16;

/// The most holders of connections that are named.
const HOLDERS_MAX: usize = 8;

/// The last lines of a container, which its engine sends.
pub(crate) type Lines = Pin<Box<dyn Future<Output = Vec<String>> + Send>>;

/// Answers the engine's questions about processes.
pub struct Inspector {
    reader: ProcReader,
    pub(crate) blocking_reads: BlockingReads,
    outcomes: Outcomes<Answer>,
    snapshots: SnapshotOptions,
    exits: HashMap<ServiceId, VecDeque<String>>,
    /// The main process that ended last.
    ended: HashMap<ServiceId, Process>,
    /// Logs and configurations are on disks, of which one may not answer.
    context_reads: OneAtATime,
    hangs: HangInspector,
    pub(crate) crashes: Crashes,
    /// What the largest processes hold, in case memory runs out.
    pub(crate) memory: MemorySampler,
    culprits: Culprits,
    oom_log: OomLog,
    /// An early sample of each silent service, until an examination uses it.
    early: HashMap<ServiceId, PendingSample>,
    /// The server that a silent service waited for when it was last looked.
    awaited: HashMap<ServiceId, Awaited>,
}

/// A first sample, taken before the engine asks for an examination.
struct PendingSample {
    main: ProcessKey,
    asked: Timestamp,
    sample: oneshot::Receiver<Option<Sample>>,
}

impl Inspector {
    pub(crate) fn new(reader: ProcReader, outcomes: Outcomes<Answer>, snapshots: SnapshotOptions) -> Self {
        Self {
            crashes: Crashes::new(reader.clone()),
            memory: MemorySampler::new(reader.clone()),
            culprits: Culprits::default(),
            oom_log: OomLog::default(),
            reader,
            blocking_reads: BlockingReads::new(),
            outcomes,
            snapshots,
            exits: HashMap::new(),
            ended: HashMap::new(),
            context_reads: OneAtATime::default(),
            hangs: HangInspector::default(),
            early: HashMap::new(),
            awaited: HashMap::new(),
        }
    }

    /// Reads the kernel's reports of OOM kills from now on.
    pub(crate) fn read_from(&mut self, log: OomLog) {
        self.oom_log = log;
    }

    /// A reload removed a service.
    pub(crate) fn remove(&mut self, service: ServiceId) {
        self.exits.remove(&service);
        self.ended.remove(&service);
        self.culprits.remove(service);
        self.early.remove(&service);
        self.awaited.remove(&service);
        self.crashes.remove(service);
    }

    /// A reload changed where snapshots go, or how many are kept.
    pub(crate) fn configure(&mut self, snapshots: SnapshotOptions) {
        self.snapshots = snapshots;
    }

    /// A process of a service was ended for its memory. Who took it is found at once, for the context of its fault.
    pub(crate) fn ended_for_memory(&self, service: ServiceId, death: MemoryDeath) {
        let known = (self.reader.clone(), self.memory.history.clone());
        self.culprits.look(service, death, known, self.oom_log.clone());
    }

    /// Keeps the exit of a service's process for the next snapshot.
    pub(crate) fn exited(&mut self, service: ServiceId, exit: &ProcessExit, is_main: bool) {
        if is_main {
            self.ended.insert(service, exit.process.clone());
        }
        let exits = self.exits.entry(service).or_default();
        if exits.len() == EXITS_MAX {
            exits.pop_front();
        }
        exits.push_back(sentence(exit));
    }

    /// Samples a service's processes twice, or once more after a usable early sample. The answer comes as
    /// [`Answer::Examined`].
    pub(crate) fn examine(
        &mut self,
        service: ServiceId,
        main: Option<ProcessKey>,
        over: Duration,
        ahead: Option<EarlySample>,
    ) {
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        let early = self.early.remove(&service).filter(|early| Some(early.main) == main).zip(ahead);
        let early = early.filter(|(early, ahead)| early.asked >= ahead.since);
        let awaited = self.awaited.get(&service).zip(ahead);
        let awaits = awaited.filter(|(awaited, ahead)| awaited.at >= ahead.since);
        let awaits = awaits.map(|(awaited, _)| awaited.server);
        self.outcomes.spawn(async move {
            let seen = match main {
                Some(main) => examine(&reader, &blocking_reads, main, over, early).await,
                None => None,
            };
            let seen = seen.map(|seen| Box::new(Examination { awaits, ..seen }));
            Answer::Examined(service, seen)
        });
    }

    /// Writes a snapshot of a service's processes. The answers come as [`Answer::Stacks`], if the configuration wants them,
    /// and then as [`Answer::Snapshot`]. `services` names the servers that its threads may wait for.
    pub(crate) fn snapshot(
        &self,
        service: ServiceId,
        name: &str,
        main: Option<ProcessKey>,
        services: ServiceNames,
    ) {
        let hangs = self.hangs.clone();
        let (reader, blocking_reads, options) =
            (self.reader.clone(), self.blocking_reads.clone(), self.snapshots.clone());
        let last_exits = self.exits.get(&service).into_iter().flatten().cloned().collect();
        let name = name.to_owned();
        let outcomes = self.outcomes.clone();
        self.outcomes.spawn(async move {
            let written = match main {
                Some(main) => {
                    let subject = Subject { service: name, main, last_exits };
                    let draft = Draft::default();
                    let whole = whole_snapshot(&reader, &blocking_reads, subject.clone(), draft.clone());
                    let stacks = hangs.stacks(&reader, main, services, options.stacks, SNAPSHOT_TIMEOUT);
                    // Each is limited in time by itself.
                    let ((), stacks) = tokio::join!(whole, stacks);
                    if let Some(stacks) = stacks {
                        draft.add_stacks(&stacks.lines);
                        outcomes.send(Answer::Stacks(service, stacks.stacks)).await;
                    }
                    write_snapshot(&blocking_reads, &subject.service, draft.take(), options).await
                }
                None => Err(format!("no main process of {name} is known, so there is nothing to look at")),
            };
            Answer::Snapshot(service, written.map(|path| path.display().to_string()))
        });
    }

    /// Gathers what explains the fault of a service to a person: the last lines of its log, of this run, and
    /// what was changed before, and where its main process crashed. The answer comes as [`Answer::Context`], and comes once more
    /// if names or a core dump are found later.
    ///
    /// `for_memory` says that memory ran out, so that it also tells who took it.
    pub(crate) fn gather_context(
        &self,
        service: &Service,
        (invocation, run): (Option<String>, Option<OutputRun>),
        since: Timestamp,
        for_memory: bool,
        lines: Option<Lines>,
    ) {
        let (culprits, log) = (self.culprits.clone(), self.oom_log.clone());
        let unit = service.unit().map(str::to_owned);
        let (id, reads) = (service.id, self.context_reads.clone());
        let ended = self.ended.get(&id).cloned();
        let mut crash = self.crashes.of_service(id, since);
        let outcomes = self.outcomes.clone();
        let output = service.exec().map(|exec| exec.output.clone());
        let is_container = lines.is_some();
        let suspects = changes::suspects(service, ended.as_ref());
        tokio::spawn(async move {
            sleep(log_lines::WRITTEN).await;
            let until = Instant::now() + CONTEXT_TIMEOUT;
            let read = move || {
                let logs = match (invocation.filter(|_| !is_container), output) {
                    (Some(invocation), _) => log_lines::of_invocation(&invocation),
                    (None, Some(output)) => {
                        log_lines::of_output(&output, ended.map(|it| it.key.start), run.as_ref())
                    }
                    (None, None) => Ok(Vec::new()),
                };
                (logs, changes::before(since, &suspects))
            };
            let took = async {
                if !for_memory {
                    return None;
                }
                // A slow look keeps back neither the logs nor the changes beyond the limit.
                timeout_at(until, culprits.looked(id)).await.ok()?;
                let patience = until.saturating_duration_since(Instant::now());
                let find = move || oomd::told(culprits.of(id, since, &log), unit.as_deref(), since);
                reads.answer("culprit", patience, find).await.ok().flatten()
            };
            let named = async {
                match &mut crash {
                    Some(crash) => Some(crash.named().await),
                    None => None,
                }
            };
            let read = reads.answer("context", CONTEXT_TIMEOUT, read);
            let (read, named, culprit) = tokio::join!(read, named, took);
            let (logs, changes) = match read {
                Ok((logs, changes)) => (logs.map_err(|error| error.to_string()), changes),
                Err(error) => (Err(error.to_string()), Vec::new()),
            };
            let mut logs = logs.unwrap_or_else(|error| {
                tracing::debug!("the last lines of a service cannot be read: {error}");
                Vec::new()
            });
            if let Some(lines) = lines {
                logs = lines.await;
            }
            let (changes, changed_at) =
                changes.into_iter().map(|change| (change.words, change.at_us)).unzip();
            let mut context = FaultContext {
                logs,
                changes,
                changed_at,
                crash: named.map(Box::new),
                culprit: culprit.map(Box::new),
                ..FaultContext::default()
            };
            outcomes.send(Answer::Context(id, context.clone())).await;
            // Names can take seconds when several services crash at once, and `systemd-coredump` takes its time.
            if let Some(crash) = crash
                && let Some(site) = crash.complete().await
                && context.crash.as_deref() != Some(&site)
            {
                context.crash = Some(Box::new(site));
                outcomes.send(Answer::Context(id, context)).await;
            }
        });
    }

    /// Finds the process that listens on one of these ports. The answer comes as [`Answer::PortHolder`].
    pub(crate) fn find_port_holder(&self, service: ServiceId, ports: Vec<u16>) {
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let found = blocking_reads.read(SAMPLE_TIMEOUT, move || reader.port_holder(&ports)).await;
            Answer::PortHolder(service, logged(found).flatten())
        });
    }

    /// Finds the sockets that listen on a port; the answer comes as [`Answer::Listeners`].
    pub(crate) fn find_listener(&self, service: ServiceId, main: Option<ProcessKey>, port: u16) {
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let find = move || Survey::new(reader).listeners_on(port, main.map(|main| main.pid));
            let found = logged(blocking_reads.read(SAMPLE_TIMEOUT, find).await).flatten();
            Answer::Listeners(service, port, found)
        });
    }

    /// Finds the process that takes the place of a service's main process; the answer comes as [`Answer::Successor`].
    pub(crate) fn find_successor(&self, service: ServiceId, left: LeftProcesses, ports: Vec<u16>) {
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let find = move || {
                let survey = Survey::new(reader);
                survey.successor(&survey.left(&left), &ports)
            };
            let found = blocking_reads.read(SAMPLE_TIMEOUT, find).await;
            Answer::Successor(service, logged(found).flatten())
        });
    }

    /// Finds the clients with connections to these ports, or to the Unix sockets of the service's processes. The
    /// answer comes as [`Answer::Holders`].
    pub(crate) fn find_holders(&self, service: ServiceId, main: Option<ProcessKey>, ports: Vec<u16>) {
        let (reader, blocking_reads) = (self.reader.clone(), self.blocking_reads.clone());
        self.outcomes.spawn(async move {
            let find = move || {
                let mut clients = reader.connections_to(&ports);
                let pids = main.map(|main| reader.process_tree().of(main.pid)).unwrap_or_default();
                clients.extend(reader.unix_clients_of(&pids));
                most(clients)
            };
            Answer::Holders(
                service,
                logged(blocking_reads.read(SAMPLE_TIMEOUT, find).await).unwrap_or_default(),
            )
        });
    }
}

async fn first_sample(
    reader: &ProcReader,
    blocking_reads: &BlockingReads,
    main: ProcessKey,
) -> Option<Sample> {
    let reader = reader.clone();
    logged(blocking_reads.read(SAMPLE_TIMEOUT, move || reader.sample(main)).await)?
}

async fn examine(
    reader: &ProcReader,
    blocking_reads: &BlockingReads,
    main: ProcessKey,
    over: Duration,
    early: Option<(PendingSample, EarlySample)>,
) -> Option<Examination> {
    let early = match early {
        Some((early, ahead)) => early.sample.await.ok().flatten().map(|sample| (sample, ahead.over)),
        None => None,
    };
    let ahead = early.is_some();
    let first = match early {
        Some((sample, over)) => {
            sleep(over.saturating_sub(Timestamp::now().since(sample.at()))).await;
            sample
        }
        None => {
            let sample = first_sample(reader, blocking_reads, main).await?;
            sleep(over).await;
            sample
        }
    };
    let reader = reader.clone();
    let seen = logged(blocking_reads.read(SAMPLE_TIMEOUT, move || reader.examine(&first)).await)??;
    Some(Examination { ahead, ..seen })
}

/// Writes into `draft` whatever can be read in time.
async fn whole_snapshot(reader: &ProcReader, blocking_reads: &BlockingReads, subject: Subject, draft: Draft) {
    let reader = reader.clone();
    // The snapshot itself says whether it is complete.
    logged(blocking_reads.read(SNAPSHOT_TIMEOUT, move || reader.snapshot(&subject, &draft)).await);
}

/// The path of the snapshot, or what to do for the next one.
async fn write_snapshot(
    blocking_reads: &BlockingReads,
    service: &str,
    text: String,
    options: SnapshotOptions,
) -> Result<PathBuf, String> {
    let (at, service) = (Timestamp::now().to_wall(), service.to_owned());
    let directory = options.directory.clone();
    let write = move || {
        let folder = Folder::open(&options.directory)?;
        folder.write(&service, at, &text, options.keep as usize)
    };
    match blocking_reads.read(WRITE_TIMEOUT, write).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(why) => {
            let place = directory.display();
            Err(format!("the snapshot was not written to {place} in time, look at that disk: {why}"))
        }
    }
}

/// The result. An error is logged.
fn logged<T>(found: Result<T, String>) -> Option<T> {
    found.inspect_err(|why| tracing::warn!("inspection: cannot read the processes of a service: {why}")).ok()
}

/// The clients with most connections as holders. A client with both TCP and Unix sockets is one holder.
fn most(clients: Vec<Client>) -> Vec<Holder> {
    let mut holders: Vec<Holder> = Vec::new();
    for client in clients {
        let process = Some((client.pid, client.name));
        match holders.iter_mut().find(|holder| holder.process == process) {
            Some(holder) => holder.connections += client.connections,
            None => holders.push(Holder { process, connections: client.connections, ..Holder::default() }),
        }
    }
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.connections));
    holders.truncate(HOLDERS_MAX);
    holders
}

/// The exit of a process, for people.
fn sentence(exit: &ProcessExit) -> String {
    let process = &exit.process;
    let by = match exit.killer() {
        None => String::new(),
        Some(Sender::Kernel) => ", sent by the kernel".to_owned(),
        Some(Sender::Itself) => ", sent by itself".to_owned(),
        Some(Sender::Process { pid, name, user_id, unit, .. }) => {
            let unit = unit.as_deref().map(|unit| format!(", {unit}")).unwrap_or_default();
            format!(", sent by {name} ({}, uid {user_id}{unit})", whereabouts(*pid))
        }
    };
    let oom = if exit.oom { ", chosen by the OOM killer" } else { "" };
    format!(
        "{:.3} process {} ({}) ended with {}{by}{oom} after {:.3} s",
        exit.at.to_wall(),
        process.key.pid,
        process.name,
        exit.status,
        exit.uptime().as_secs_f64()
    )
}

#[cfg(test)]
mod tests;
