//! The thread of the fleet: it alone talks to NATS.

mod inbox;
mod received;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, Event, ServerError, connection::State as Connection, jetstream};
use serde::Serialize;
use tokio::{
    runtime::Builder,
    select,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use self::inbox::{Received, pass_on};
use super::{
    bucket,
    connect::{ANSWER, Files, StartError, connect_once, foreign, options, read_files},
    events,
    link::{Link, Local},
    message::{self, Alive, BEAT, Claim, Held},
    own_addresses,
    peers::{Peers, Report},
    spool::Reader,
    subject::{self, Key, host_token},
    watchers::{self, Role},
};
use crate::{
    bounded_thread,
    clock::Timestamp,
    config,
    emit::{Names, Origin},
    fact::ServiceId,
    host::address,
    outcomes::Outcomes,
};

/// The most subscriptions.
const SUBSCRIPTIONS: usize = 1024;

/// The most keys whose latest number is known, where messages are signed.
const SEQUENCES: usize = 100_000;

/// The most connections of services that wait.
const CONNECTS: usize = 256;

/// A connection that is away for less is not worth a word.
const AWAY: Duration = Duration::from_secs(2);

/// How long one message may take to be handed to the client.
const HANDED: Duration = Duration::from_secs(1);

/// How long some requests to JetStream may take together. One takes at most [`ANSWER`].
const ASKED: Duration = Duration::from_secs(20);

/// How often it is said that messages are refused, and that the bucket is looked for.
const SELDOM: Duration = Duration::from_secs(60);

/// When the bucket is looked for again if it could not be made.
const ENSURED_AGAIN: Duration = Duration::from_secs(5);

/// What this host is in the fleet.
#[derive(Debug)]
pub struct Options {
    pub fleet: config::Fleet,
    pub origin: Origin,
    pub names: Names,
    /// None: events are not sent.
    pub spool: Option<Reader>,
}

impl Options {
    fn host(&self) -> String {
        host_of(&self.fleet, &self.origin.host_name)
    }
}

/// The name of a host in the fleet.
pub(super) fn host_of(fleet: &config::Fleet, host_name: &str) -> String {
    fleet.name.clone().unwrap_or_else(|| host_token(host_name))
}

/// Joins the fleet, on a thread of its own. What other hosts report goes to `reports`.
pub fn start<T: From<Report> + Send + 'static>(
    options: Options,
    reports: Outcomes<T>,
) -> Result<Link, StartError> {
    let files = read_files(&options.fleet)?;
    let (local_sender, local) = watch::channel(Local::default());
    let (connect_sender, connects) = mpsc::channel(CONNECTS);
    let (ended_sender, ended) = oneshot::channel();
    bounded_thread::start("fleet", move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("fleet: this host does not take part: {error}"),
        };
        let done = runtime.block_on(run(options, files, local, connects, reports));
        if let Err(why) = done {
            tracing::error!("fleet: this host does not take part: {why}");
        }
        let _ = ended_sender.send(());
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(Link::new(local_sender, connect_sender, ended))
}

/// Whether the fleet can be joined: what is found, or why not.
pub async fn reach(fleet: &config::Fleet, host_name: &str) -> Result<String, String> {
    let host = host_of(fleet, host_name);
    let client = connect_once(fleet, &host).await?;
    let server = client.server_info();
    let bucket = timeout(2 * ANSWER, bucket::open(&jetstream::new(client))).await;
    bucket.unwrap_or_else(|_| Err("JetStream does not answer".to_owned()))?;
    Ok(format!(
        "{host} is connected to {} (NATS {}), and the bucket is there",
        foreign(&server.server_name),
        foreign(&server.version)
    ))
}

struct Member<T> {
    host: String,
    run: String,
    /// Those of the configuration. Without any, the host's own ones are read each time: one may move to another host.
    addresses: Vec<IpAddr>,
    files: Files,
    client: Client,
    peers: Peers,
    reports: Outcomes<T>,
    /// Grows over restarts of the daemon as well, unless the clock is set back.
    sequence: u64,
    /// The latest of each key, where messages are signed.
    sequences: HashMap<Key, u64>,
    /// The subscriptions that come and go.
    subscriptions: HashMap<String, JoinHandle<()>>,
    inbox: mpsc::Sender<Received>,
    /// The hosts that were told what is held because of them.
    told: Vec<String>,
    refused: Arc<AtomicU64>,
    said: Option<Instant>,
    said_missing: Option<Instant>,
    said_refusal: Option<Instant>,
    said_away: bool,
    /// Why the server cannot be reached is to be found out: the client that tries again and again keeps that to itself.
    asks_why: bool,
    away_since: Option<Instant>,
    /// When the bucket and the stream are looked for next; None while that is under way.
    ensure_due: Option<Instant>,
    role: Role,
}

/// What was asked of JetStream.
enum Asked {
    /// Whether the bucket and the stream are there.
    Ensured(Result<(), String>),
    /// Whether this host is one that hears all others.
    IsWatcher(Result<bool, String>),
    /// Why the server cannot be reached; None if it can be by now.
    Away(Option<String>),
}

async fn run<T: From<Report> + Send + 'static>(
    options_of: Options,
    files: Files,
    mut local: watch::Receiver<Local>,
    mut connects: mpsc::Receiver<(ServiceId, SocketAddr)>,
    reports: Outcomes<T>,
) -> Result<(), String> {
    let host = options_of.host();
    let Options { fleet, origin, names, spool } = options_of;
    let (event_sender, mut events) = mpsc::channel(64);
    let (connecting, servers) =
        options(&fleet, &files, &host, event_sender).map_err(|error| error.to_string())?;
    let client = connecting.retry_on_initial_connect().connect(servers).await;
    let client = client.map_err(|error| foreign(&error.to_string()))?;
    let jetstream = jetstream::new(client.clone());
    let (inbox, mut messages) = mpsc::channel(inbox::WAITING);
    let (connected, is_connected) = watch::channel(false);
    let (mut tasks, mut asking) = (JoinSet::new(), JoinSet::new());
    if let Some(spool) = spool {
        let signer = files.signer.clone();
        tasks.spawn(events::send(jetstream.clone(), spool, host.clone(), signer, is_connected));
    }
    let mut member = Member {
        peers: Peers::new(&host, names),
        run: origin.ephemeral_id,
        addresses: fleet.addresses.clone(),
        host,
        files,
        client,
        reports,
        sequence: u64::try_from(Timestamp::now().to_wall().as_microsecond()).unwrap_or_default(),
        sequences: HashMap::new(),
        subscriptions: HashMap::new(),
        inbox,
        told: Vec::new(),
        refused: Arc::default(),
        said: None,
        said_missing: None,
        said_refusal: None,
        said_away: false,
        asks_why: false,
        away_since: Some(Instant::now()),
        ensure_due: Some(Instant::now()),
        role: Role::default(),
    };
    member.subscribe_to_wanted().await;
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = interval(Duration::from_secs(1));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            Some(event) = events.recv() => member.on_event(&event),
            changed = local.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = local.borrow_and_update().clone();
                member.publish_services(&now).await;
            }
            _ = beat.tick() => {
                let now = local.borrow().clone();
                member.publish_all(&now).await;
            }
            _ = look.tick() => {
                member.look(&connected);
                if member.is_to_ensure() {
                    let (jetstream, replicas) = (jetstream.clone(), fleet.replicas);
                    asking.spawn(async move { Asked::Ensured(in_time(bucket::ensure(&jetstream, replicas)).await) });
                }
                if member.role.is_to_look(member.peers.connected_for(Instant::now())) {
                    let (jetstream, host) = (jetstream.clone(), member.host.clone());
                    asking.spawn(async move { Asked::IsWatcher(in_time(watchers::is_one(&jetstream, &host)).await) });
                }
            }
            Some((service, remote)) = connects.recv() => member.peers.connect(service, remote, Instant::now()),
            Some(message) = messages.recv() => {
                if !member.on_messages(message, &mut messages) {
                    continue;
                }
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {
                tracing::error!("fleet: no more events are sent until the daemon is started again");
            }
            Some(done) = asking.join_next(), if !asking.is_empty() => match done {
                Ok(Asked::Ensured(done)) => member.on_ensured(done),
                Ok(Asked::IsWatcher(is_one)) => member.on_role(is_one),
                Ok(Asked::Away(None)) => {}
                Ok(Asked::Away(Some(why))) => tracing::warn!("fleet: NATS cannot be reached: {why}"),
                // It has panicked, and is asked again.
                Err(_) => {
                    member.on_ensured(Ok(()));
                    member.on_role(Err("the hosts in the bucket are not listed".to_owned()));
                }
            }
        }
        if std::mem::take(&mut member.asks_why) {
            let (fleet, host) = (fleet.clone(), member.host.clone());
            asking.spawn(async move { Asked::Away(connect_once(&fleet, &host).await.err()) });
        }
        if member.peers.take_wants_others() {
            member.subscribe_to_wanted().await;
        }
        member.report().await;
    }
    // An end on purpose is no silence.
    let leaving = Alive { run: member.run.clone(), leaves: true, watches: false };
    member.publish(&Key::Alive(member.host.clone()), &leaving).await;
    let _ = timeout(HANDED, member.client.flush()).await;
    Ok(())
}

impl<T: From<Report> + Send + 'static> Member<T> {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == Connection::Connected
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => self.refuse(),
            Event::ServerError(ServerError::Other(error)) => {
                let error = foreign(error);
                let is_refusal = error.to_ascii_lowercase().contains("permissions violation");
                if is_refusal && self.said_refusal.is_none_or(|said| said.elapsed() >= SELDOM) {
                    self.said_refusal = Some(Instant::now());
                    tracing::warn!(
                        "fleet: NATS refuses this host something: {error}; docs/fleet.md has the permissions"
                    );
                }
            }
            _ => {}
        }
    }

    /// Looks at the connection, and at what is silent.
    fn look(&mut self, connected: &watch::Sender<bool>) {
        let now = Instant::now();
        let is_connected = self.is_connected();
        self.peers.forget_old(now);
        connected.send_if_modified(|known| std::mem::replace(known, is_connected) != is_connected);
        if is_connected {
            if self.away_since.take().is_some_and(|since| now.duration_since(since) >= AWAY) {
                tracing::info!("fleet: NATS is connected");
                // A server that was started again has lost what was in its memory.
                self.ensure_due = self.ensure_due.map(|_| now);
            }
            self.said_away = false;
            self.peers.on_connected(now);
        } else {
            let since = *self.away_since.get_or_insert(now);
            if now.duration_since(since) >= AWAY {
                self.asks_why |= !std::mem::replace(&mut self.said_away, true);
                self.peers.on_disconnected("NATS cannot be reached");
            }
        }
        let is_time = self.said.is_none_or(|said| now.duration_since(said) >= SELDOM);
        if is_time && self.refused.load(Ordering::Relaxed) > 0 {
            let refused = self.refused.swap(0, Ordering::Relaxed);
            tracing::warn!("fleet: {refused} messages of other hosts were refused or lost");
            self.said = Some(now);
        }
    }

    fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn is_to_ensure(&mut self) -> bool {
        let is_due = self.ensure_due.is_some_and(|due| due <= Instant::now());
        is_due && self.is_connected() && self.ensure_due.take().is_some()
    }

    /// The bucket and the stream are there, or are not. A cluster takes a while to agree on its leaders.
    fn on_ensured(&mut self, done: Result<(), String>) {
        let next = match done {
            Ok(()) => SELDOM,
            Err(why) => {
                if self.said_missing.is_none_or(|said| said.elapsed() >= SELDOM) {
                    self.said_missing = Some(Instant::now());
                    tracing::warn!("fleet: {}", foreign(&why));
                }
                ENSURED_AGAIN
            }
        };
        self.ensure_due = Some(Instant::now() + next);
    }

    /// Whether this host is one that hears all others.
    fn on_role(&mut self, is_one: Result<bool, String>) {
        if let Err(why) = &is_one
            && self.said_missing.is_none_or(|said| said.elapsed() >= SELDOM)
        {
            self.said_missing = Some(Instant::now());
            tracing::warn!("fleet: {why}");
        }
        if self.role.on_looked(is_one, &self.host, self.peers.reports_silence()) {
            self.peers.want_others();
        }
        if !self.role.hears_all() {
            self.peers.forget_hosts();
        }
    }

    /// False if the client does not take it now.
    async fn subscribe(&mut self, subject: String) -> bool {
        if self.subscriptions.contains_key(&subject) || self.subscriptions.len() >= SUBSCRIPTIONS {
            return true;
        }
        let Ok(Ok(subscriber)) = timeout(HANDED, self.client.subscribe(subject.clone())).await else {
            return false;
        };
        let task = tokio::spawn(pass_on(subscriber, self.inbox.clone(), Arc::clone(&self.refused)));
        self.subscriptions.insert(subject, task);
        true
    }

    async fn subscribe_to_wanted(&mut self) {
        let alive = match self.role.hears_all() {
            true => subject::all_alive(),
            // Another host with the name of this one is noticed.
            false => Key::Alive(self.host.clone()).subject(),
        };
        let mut wanted = vec![alive, subject::held_by(&self.host)];
        wanted.extend(self.peers.addresses().map(subject::claims_of));
        wanted.extend(self.peers.wanted().iter().map(Key::subject));
        // The end of its task ends a subscription.
        self.subscriptions.retain(|subject, task| {
            let is_wanted = wanted.contains(subject);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for subject in wanted {
            if !self.subscribe(subject).await {
                // Once the thread has looked after the rest.
                self.peers.want_others();
                return;
            }
        }
    }

    /// False if the client does not take it now.
    async fn publish(&mut self, key: &Key, message: &impl Serialize) -> bool {
        if !self.is_connected() {
            return false;
        }
        self.sequence += 1;
        let subject = key.subject();
        let bytes = message::write(message, &subject, self.sequence, self.files.signer.as_ref());
        // It is published again soon, so an acknowledgement is not waited for.
        let handed = timeout(HANDED, self.client.publish(subject, bytes.into())).await;
        handed.is_ok_and(|handed| handed.is_ok())
    }

    async fn publish_all(&mut self, local: &Local) {
        let alive = Alive { run: self.run.clone(), leaves: false, watches: self.role.has_heard_all() };
        if !self.publish(&Key::Alive(self.host.clone()), &alive).await {
            return;
        }
        let addresses = match self.addresses.as_slice() {
            [] => own_addresses::usable(address::own_addresses(Path::new("/proc"))),
            given => given.to_vec(),
        };
        for address in addresses {
            let claim = Claim { run: self.run.clone() };
            if !self.publish(&Key::Address(address, self.host.clone()), &claim).await {
                return;
            }
        }
        self.publish_services(local).await;
    }

    async fn publish_services(&mut self, local: &Local) {
        let state = self.peers.with_chains(local.state()).fitted();
        self.publish(&Key::State(self.host.clone()), &state).await;
        let held = local.held();
        // Those that were told before are told that nothing is held any more.
        for host in std::mem::take(&mut self.told).into_iter().filter(|host| !held.contains_key(host)) {
            self.publish(&Key::Held(host, self.host.clone()), &Held::default()).await;
        }
        for (host, held) in held {
            self.publish(&Key::Held(host.clone(), self.host.clone()), &held).await;
            self.told.push(host);
        }
    }

    /// Gives the daemon what is new. The loop takes it when it has a turn.
    async fn report(&mut self) {
        for report in self.peers.reports(Instant::now()) {
            self.reports.send(report.into()).await;
        }
    }
}

/// The outcome of requests to JetStream. A list that never ends is given up.
async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(ASKED, work).await.unwrap_or_else(|_| Err(format!("JetStream has not answered within {ASKED:?}")))
}
