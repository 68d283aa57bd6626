//! Hosts that are threads of this process. Each runs the daemon's own part in the fleet: its thread, its connection to
//! NATS and its spool. In place of a daemon's loop there is one that notes what each is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    config::{Fleet, NatsServer},
    emit::{Destination, Names, Origin},
    fact::{FleetState, ForeignStanding, ServiceId},
    fleet::{Link, Local, LocalIncident, LocalService, Options, Report, spool, start},
    outcomes::Outcomes,
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot};

use crate::fleet::HUB;

/// The second address of the hub, by which a part of the hosts reach NATS.
pub const OTHER_HUB: &str = "10.9.0.253";

/// One host of so many reaches NATS by the second address.
const APART: usize = 4;

/// One host of so many is one that others need.
const NEEDED: usize = 20;

/// How many hosts the services of a host connect to.
const NEEDS: usize = 4;

const SERVICES: u16 = 20;

/// The first port of a host's services.
const PORT: u16 = 5000;

/// Each host has an event as often.
const EVENT: Duration = Duration::from_secs(10);

/// What one host was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: Instant,
    pub host: usize,
    pub report: Report,
}

/// What hosts know now, and what they were told.
#[derive(Debug, Default)]
pub struct Seen {
    fleet: BTreeMap<usize, FleetState>,
    /// By the name of the service of another host.
    standings: BTreeMap<usize, BTreeMap<String, ForeignStanding>>,
    pub told: Vec<Told>,
}

impl Seen {
    fn note(&mut self, told: Told) {
        match &told.report {
            Report::Foreign(it) => {
                let of_host = self.standings.entry(told.host).or_default();
                of_host.insert(it.name.clone(), it.standing.clone());
            }
            Report::Fleet(state) => {
                self.fleet.insert(told.host, state.clone());
            }
            Report::Held { .. } => {}
        }
        self.told.push(told);
    }
}

/// Simulated hosts; they leave the fleet when they are dropped.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    /// How many there will be.
    all: usize,
    seen: Arc<Mutex<Seen>>,
    /// Where their loops are.
    loops: Handle,
    _end_of_loops: oneshot::Sender<()>,
    /// How many events they have written, over all phases.
    written: Arc<AtomicU64>,
    folder: TempDir,
}

#[derive(Debug)]
struct Host {
    link: Link,
    local: Local,
    writer: Arc<Mutex<spool::Writer>>,
}

impl Hosts {
    /// None yet.
    pub fn new(all: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let loops = runtime.handle().clone();
        let (end, ends) = oneshot::channel();
        thread::spawn(move || {
            let _ = runtime.block_on(ends);
        });
        let folder = tempfile::tempdir().context("no temporary folder")?;
        Ok(Self {
            hosts: Vec::new(),
            all,
            seen: Arc::default(),
            loops,
            _end_of_loops: end,
            written: Arc::default(),
            folder,
        })
    }

    /// Starts hosts until there are so many.
    pub fn grow_to(&mut self, count: usize) -> Result<()> {
        for number in self.hosts.len()..count {
            let host = self.start(number)?;
            self.hosts.push(host);
            // Hosts of a real fleet do not start within one millisecond.
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn start(&self, number: usize) -> Result<Host> {
        let state = self.folder.path().join(name(number));
        let opened = spool::open(&state, 64 << 20).map_err(anyhow::Error::msg);
        let (writer, reader) = opened.context("a spool")?;
        let hub = if is_apart(number) { OTHER_HUB } else { HUB };
        let fleet = Fleet {
            servers: vec![NatsServer { url: format!("nats://{hub}:4222"), is_tls: false }],
            credentials_file: None,
            ca_file: None,
            name: Some(name(number)),
            addresses: vec![address(number)],
            sign: false,
            keys_file: None,
            replicas: 1,
            spool: 64 << 20,
        };
        let origin =
            Origin { host_name: name(number), ephemeral_id: format!("{number:08x}"), ..Origin::default() };
        let options = Options { fleet, origin, names: Names::default(), spool: Some(reader) };
        let (reports, mut told) = Outcomes::<Report>::channel(64);
        let seen = Arc::clone(&self.seen);
        self.loops.spawn(async move {
            while let Some(report) = told.recv().await {
                let told = Told { at: Instant::now(), host: number, report };
                seen.lock().unwrap_or_else(PoisonError::into_inner).note(told);
            }
        });
        let mut link = start(options, reports).context("a host")?;
        for (service, needed) in (0..).zip(self.needed_by(number)) {
            link.connects(ServiceId(service), (address(needed), PORT).into());
        }
        let local = Local { services: (0..SERVICES).map(service).collect() };
        link.publish(local.clone());
        Ok(Host { link, local, writer: Arc::new(Mutex::new(writer)) })
    }

    /// How many hosts there are that others need; they come first.
    pub fn needed(&self) -> usize {
        (self.all / NEEDED).max(2)
    }

    /// The hosts that a host needs.
    fn needed_by(&self, number: usize) -> BTreeSet<usize> {
        let needed = self.needed();
        let needs = if number < needed { 0 } else { NEEDS };
        (0..needs).map(|nth| (number * 7 + nth * 13) % needed).collect()
    }

    /// The hosts that need one.
    pub fn needing(&self, number: usize) -> BTreeSet<usize> {
        (0..self.hosts.len()).filter(|host| self.needed_by(*host).contains(&number)).collect()
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the service of a host that others need has failed, by the word of that host.
    pub fn set_failed(&mut self, number: usize, has_failed: bool) {
        let host = &mut self.hosts[number];
        let service = &mut host.local.services[0];
        service.blocks = has_failed;
        service.incident = has_failed.then(incident);
        host.link.publish(host.local.clone());
    }

    /// The hosts among these that know the service of a host to have failed, or to be well.
    pub fn know(&self, hosts: &BTreeSet<usize>, number: usize, has_failed: bool) -> usize {
        let (seen, name) = (self.seen(), foreign_name(number));
        let known = hosts.iter().filter_map(|host| seen.standings.get(host)?.get(&name));
        known.filter(|standing| is_failed(standing) == Some(has_failed)).count()
    }

    /// Whether all hosts hear the fleet, none is silent, and each knows of what it needs that it is well.
    pub fn all_is_well(&self) -> bool {
        let seen = self.seen();
        let hears = |state: &FleetState| state.away.is_none() && state.silent.is_empty();
        (0..self.hosts.len()).all(|host| {
            let well = seen.standings.get(&host).map_or(0, |known| {
                known.values().filter(|standing| is_failed(standing) == Some(false)).count()
            });
            seen.fleet.get(&host).is_some_and(hears) && well == self.needed_by(host).len()
        })
    }

    /// Waits until all is well; how long that took.
    pub fn wait_until_well(&self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        while !self.all_is_well() {
            ensure!(
                began.elapsed() < patience,
                "the fleet is not well within {patience:?}: {}",
                self.unwell()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(began.elapsed())
    }

    /// What is not well, for people.
    fn unwell(&self) -> String {
        let seen = self.seen();
        let away = seen.fleet.values().filter(|state| state.away.is_some()).count();
        let silent: usize = seen.fleet.values().map(|state| state.silent.len()).sum();
        let unknown = seen.standings.values().flat_map(BTreeMap::values);
        let unknown = unknown.filter(|standing| is_failed(standing) != Some(false)).count();
        format!(
            "{} hosts have said anything, {away} are away, {silent} are silent, {unknown} services are not well",
            seen.fleet.len()
        )
    }

    /// Writes events for all hosts, from a thread, until it is dropped.
    pub fn events(&self) -> Events {
        let writers: Vec<_> = self.hosts.iter().map(|host| Arc::clone(&host.writer)).collect();
        Events::start(writers, Arc::clone(&self.written))
    }

    /// How many events they have ever written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// The events of all hosts.
#[derive(Debug)]
pub struct Events {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// `written` counts the events of all phases. Their ids come from it: JetStream takes one that comes again for the same
    /// event.
    fn start(writers: Vec<Arc<Mutex<spool::Writer>>>, written: Arc<AtomicU64>) -> Self {
        let ends: Arc<AtomicBool> = Arc::default();
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            for (host, writer) in writers.iter().enumerate().cycle() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let line = line(host, written.load(Ordering::Acquire));
                let done = writer.lock().unwrap_or_else(PoisonError::into_inner).write(line.as_bytes());
                // A spool with 64 MiB of room takes what a benchmark writes.
                assert!(done.is_ok(), "host {host}: {done:?}");
                written.fetch_add(1, Ordering::AcqRel);
                thread::sleep(EVENT / u32::try_from(writers.len()).unwrap_or(u32::MAX));
            }
        });
        Self { ends, thread: Some(thread) }
    }

    /// Writes no more.
    ///
    /// # Panics
    /// If an event could not be written.
    pub fn stop(mut self) {
        self.ends.store(true, Ordering::Release);
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended, "every event has room in a spool");
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An event as long as those of a daemon are.
fn line(host: usize, number: u64) -> String {
    let padding = "x".repeat(600);
    let id = format!("{host:08x}-{number}");
    format!("{{\"event\":{{\"id\":\"{id}\",\"action\":\"service.state\"}},\"message\":\"{padding}\"}}\n")
}

/// Whether a standing says that the service has failed; None if nothing is known.
fn is_failed(standing: &ForeignStanding) -> Option<bool> {
    match standing {
        ForeignStanding::Well => Some(false),
        ForeignStanding::Failed(_) => Some(true),
        ForeignStanding::Unknown(_) => None,
    }
}

/// Whether a host reaches NATS by the second address.
pub fn is_apart(number: usize) -> bool {
    number % APART == APART - 1
}

fn name(number: usize) -> String {
    format!("host-{number:04}")
}

/// The service that others need, as they call it.
fn foreign_name(number: usize) -> String {
    format!("service-00 on {}", name(number))
}

fn address(number: usize) -> IpAddr {
    let number = u32::try_from(number).unwrap_or_default();
    std::net::Ipv4Addr::from_bits(0x0a14_0001 + number).into()
}

fn service(number: u16) -> LocalService {
    LocalService {
        name: format!("service-{number:02}"),
        state: "healthy",
        ports: vec![PORT + number],
        blocks: false,
        incident: None,
    }
}

fn incident() -> LocalIncident {
    LocalIncident {
        id: "c0ffee00-i1".to_owned(),
        verdict: "oom_killed",
        confidence: 1.0,
        severity: "warning",
        summary: "the OOM killer ended pid 4711 (redis-server), which used 512 MiB of 512 MiB".to_owned(),
        evidence: vec!["c0ffee00-7".to_owned()],
        cause: None,
        cause_elsewhere: None,
        held: Vec::new(),
    }
}
