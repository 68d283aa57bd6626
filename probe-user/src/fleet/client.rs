//! The thread of the fleet: it alone talks to NATS.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use async_nats::{Client, Event, Message, Subscriber, connection::State as Connection, jetstream};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::{
    runtime::Builder,
    select,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    bucket,
    connect::{ANSWER, Files, StartError, connect_once, foreign, options, read_files},
    events,
    link::{Link, Local},
    message::{self, Alive, Claim, Held, Refusal, State},
    own_addresses,
    peers::{BEAT, Peers, Report},
    spool::Reader,
    subject::{self, Key, host_token},
};
use crate::{
    bounded_thread,
    clock::Timestamp,
    config,
    emit::{Names, Origin},
    fact::ServiceId,
    outcomes::Outcomes,
};

/// The most subscriptions.
const SUBSCRIPTIONS: usize = 1024;

/// The most messages of others that wait.
const INBOX: usize = 4096;

/// The most connections of services that wait.
const CONNECTS: usize = 256;

/// A connection that is away for less is not worth a word.
const AWAY: Duration = Duration::from_secs(2);

/// How long one message may take to be handed to the client.
const HANDED: Duration = Duration::from_secs(1);

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
    inbox: mpsc::Sender<Message>,
    /// The hosts that were told what is held because of them.
    told: Vec<String>,
    refused: u64,
    said: Option<Instant>,
    said_missing: Option<Instant>,
    away_since: Option<Instant>,
    /// When the bucket and the stream are looked for next; None while that is under way.
    ensure_due: Option<Instant>,
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
    let (inbox, mut messages) = mpsc::channel(INBOX);
    let (connected, is_connected) = watch::channel(false);
    let (mut tasks, mut ensuring) = (JoinSet::new(), JoinSet::new());
    if let Some(spool) = spool {
        tasks.spawn(events::send(jetstream.clone(), spool, host.clone(), is_connected));
    }
    let addresses = match fleet.addresses.as_slice() {
        [] => own_addresses::read(Path::new("/proc")),
        given => given.to_vec(),
    };
    let mut member = Member {
        peers: Peers::new(&host, names),
        run: origin.ephemeral_id,
        addresses,
        host,
        files,
        client,
        reports,
        sequence: u64::try_from(Timestamp::now().to_wall().as_microsecond()).unwrap_or_default(),
        sequences: HashMap::new(),
        subscriptions: HashMap::new(),
        inbox,
        told: Vec::new(),
        refused: 0,
        said: None,
        said_missing: None,
        away_since: Some(Instant::now()),
        ensure_due: Some(Instant::now()),
    };
    for all in [subject::all_alive(), subject::held_by(&member.host)] {
        member.subscribe(all).await;
    }
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
                    ensuring.spawn(async move { bucket::ensure(&jetstream, replicas).await });
                }
            }
            Some((service, remote)) = connects.recv() => member.peers.connect(service, remote),
            Some(message) = messages.recv() => member.on_message(&message),
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            Some(done) = ensuring.join_next(), if !ensuring.is_empty() => member.on_ensured(done.unwrap_or(Ok(()))),
        }
        member.subscribe_to_wanted().await;
        member.report().await;
    }
    // An end on purpose is no silence.
    let leaving = Alive { run: member.run.clone(), leaves: true };
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
            Event::SlowConsumer(_) => self.refused += 1,
            Event::ServerError(error) => tracing::debug!("fleet: NATS: {}", foreign(&error.to_string())),
            Event::ClientError(error) => tracing::debug!("fleet: NATS: {}", foreign(&error.to_string())),
            _ => {}
        }
    }

    /// Looks at the connection, and at what is silent.
    fn look(&mut self, connected: &watch::Sender<bool>) {
        let now = Instant::now();
        let is_connected = self.is_connected();
        connected.send_if_modified(|known| std::mem::replace(known, is_connected) != is_connected);
        if is_connected {
            if self.away_since.take().is_some_and(|since| now.duration_since(since) >= AWAY) {
                tracing::info!("fleet: NATS is connected");
                // A server that was started again has lost what was in its memory.
                self.ensure_due = self.ensure_due.map(|_| now);
            }
            self.peers.on_connected(now);
        } else {
            let since = *self.away_since.get_or_insert(now);
            if now.duration_since(since) >= AWAY {
                self.peers.on_disconnected("NATS cannot be reached");
            }
        }
        let is_time = self.said.is_none_or(|said| now.duration_since(said) >= SELDOM);
        if self.refused > 0 && is_time {
            tracing::warn!("fleet: {} messages of other hosts were refused or lost", self.refused);
            (self.refused, self.said) = (0, Some(now));
        }
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

    async fn subscribe(&mut self, subject: String) {
        if self.subscriptions.contains_key(&subject) || self.subscriptions.len() >= SUBSCRIPTIONS {
            return;
        }
        if let Ok(Ok(subscriber)) = timeout(HANDED, self.client.subscribe(subject.clone())).await {
            let task = tokio::spawn(pass_on(subscriber, self.inbox.clone()));
            self.subscriptions.insert(subject, task);
        }
    }

    async fn subscribe_to_wanted(&mut self) {
        let claims = self.peers.addresses().into_iter().map(subject::claims_of);
        let wanted: Vec<String> = claims.chain(self.peers.wanted().iter().map(Key::subject)).collect();
        for subject in wanted {
            self.subscribe(subject).await;
        }
    }

    async fn publish(&mut self, key: &Key, message: &impl Serialize) {
        if !self.is_connected() {
            return;
        }
        self.sequence += 1;
        let subject = key.subject();
        let bytes = message::write(message, &subject, self.sequence, self.files.signer.as_ref());
        // It is published again soon, so an acknowledgement is not waited for.
        let _ = timeout(HANDED, self.client.publish(subject, bytes.into())).await;
    }

    async fn publish_all(&mut self, local: &Local) {
        let alive = Alive { run: self.run.clone(), leaves: false };
        self.publish(&Key::Alive(self.host.clone()), &alive).await;
        for address in self.addresses.clone() {
            let claim = Claim { run: self.run.clone() };
            self.publish(&Key::Address(address, self.host.clone()), &claim).await;
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

    fn on_message(&mut self, message: &Message) {
        if let Some(Err(_)) = self.take(message) {
            self.refused += 1;
        }
    }

    /// None for a subject that is no key.
    fn take(&mut self, message: &Message) -> Option<Result<(), Refusal>> {
        let key = Key::read(message.subject.as_str())?;
        Some(self.take_of(&key, message))
    }

    fn take_of(&mut self, key: &Key, message: &Message) -> Result<(), Refusal> {
        // A deletion of a key says nothing.
        if message.payload.is_empty() {
            return Ok(());
        }
        let (subject, now) = (message.subject.to_string(), Instant::now());
        let place = (subject.as_str(), key.host());
        let keys = self.files.keys.as_ref();
        match key {
            Key::Alive(host) => {
                let (alive, sequence) = message::read::<Alive>(&message.payload, place, keys)?;
                let is_own = self.is_new(key, sequence)
                    && !self.peers.on_alive(host, alive, &self.run, now)
                    && self.said.is_none_or(|said| now.duration_since(said) >= SELDOM);
                if is_own {
                    self.said = Some(now);
                    tracing::error!(
                        "fleet: another host calls itself {host} too; set fleet.name on one of them"
                    );
                }
            }
            Key::State(host) => {
                let (state, sequence) = message::read::<State>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_state(host, state.bounded(), now);
                }
            }
            Key::Address(address, host) => {
                let (_, sequence) = message::read::<Claim>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_claim(*address, host, now);
                }
            }
            Key::Held(_, host) => {
                let (held, sequence) = message::read::<Held>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_held(host, held.bounded());
                }
            }
        }
        Ok(())
    }

    /// Whether a signed message is later than those before it: a server could send old ones again.
    fn is_new(&mut self, key: &Key, sequence: u64) -> bool {
        if self.files.keys.is_none() {
            return true;
        }
        let latest = self.sequences.entry(key.clone()).or_default();
        let is_new = sequence > *latest;
        *latest = sequence.max(*latest);
        is_new
    }

    /// Gives the daemon what is new. The loop takes it when it has a turn.
    async fn report(&mut self) {
        for report in self.peers.reports(Instant::now()) {
            self.reports.send(report.into()).await;
        }
    }
}

/// Passes messages on. What comes faster than it is read is lost, and comes again.
async fn pass_on(mut subscriber: Subscriber, inbox: mpsc::Sender<Message>) {
    while let Some(message) = subscriber.next().await {
        if let Err(mpsc::error::TrySendError::Closed(_)) = inbox.try_send(message) {
            return;
        }
    }
}
