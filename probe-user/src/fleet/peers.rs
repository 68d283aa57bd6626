//! What is known of other hosts, from their messages alone. No I/O: the time is an argument.
//!
//! An address counts as a host's own if that host alone claims it. Only a user with the permission can publish a claim, and
//! the permissions that docs/fleet.md has name the addresses of each host. An address that two hosts claim belongs to neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    link::CONNECTIONS_MAX,
    message::{Alive, CHAIN_MAX, Held, SILENT, ServiceState, State},
    own_addresses::is_usable,
    subject::Key,
    watchers::rank,
};
use crate::{
    emit::Names,
    fact::{FleetState, ForeignService, ForeignStanding, ServiceId},
};

/// A silent host is forgotten after this long.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// The most hosts that are known.
const HOSTS_MAX: usize = 10_000;

/// The most addresses elsewhere that are looked after.
const ADDRESSES_MAX: usize = 256;

/// The most hosts whose states are known.
const STATES_MAX: usize = 256;

/// The most hosts that claim one address, and are remembered.
const CLAIMS_MAX: usize = 8;

/// An address that no host claims has as long until another one may take its place.
const UNCLAIMED: Duration = SILENT;

/// A claim, and the state of a host, are forgotten as long after they were heard last.
const OLD: Duration = Duration::from_secs(600);

/// The most services that are known to be held elsewhere.
const TOLD_MAX: usize = 1024;

/// What the daemon is to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    Foreign(ForeignService),
    /// These are held on other hosts because of a service of this one.
    Held {
        service: String,
        held: Vec<ServiceId>,
    },
    Fleet(FleetState),
}

#[derive(Debug)]
pub(super) struct Peers {
    me: String,
    names: Names,
    /// Those that are heard, while this host hears all.
    hosts: BTreeMap<String, Heard>,
    claims: BTreeMap<IpAddr, BTreeMap<String, Instant>>,
    /// Who of this host connects where.
    remotes: BTreeMap<SocketAddr, BTreeSet<ServiceId>>,
    /// The addresses of these, and when a service connected there last.
    addresses: BTreeMap<IpAddr, Instant>,
    /// Whether other subjects are wanted than before.
    wants_others: bool,
    /// Of the hosts that services of this one connect to.
    states: BTreeMap<String, (State, Instant)>,
    /// What the daemon knows.
    foreign: BTreeMap<ServiceId, ForeignService>,
    fleet: Option<FleetState>,
    /// What is held elsewhere and the daemon does not know yet.
    held: Vec<Report>,
    /// What it knows of that.
    told: BTreeSet<(String, ServiceId)>,
    /// Since when this host hears others.
    connected: Option<Instant>,
    /// When any host was heard last, this one included.
    heard: Option<Instant>,
    /// Why not, otherwise.
    away: String,
}

/// When a host was heard.
#[derive(Debug)]
struct Heard {
    last: Instant,
    /// Since when it has been heard to hear all others.
    watches: Option<Instant>,
}

impl Peers {
    pub(super) fn new(me: &str, names: Names) -> Self {
        Self {
            me: me.to_owned(),
            names,
            hosts: BTreeMap::new(),
            claims: BTreeMap::new(),
            remotes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            wants_others: false,
            states: BTreeMap::new(),
            foreign: BTreeMap::new(),
            fleet: None,
            held: Vec::new(),
            told: BTreeSet::new(),
            connected: None,
            heard: None,
            away: "NATS is not connected yet".to_owned(),
        }
    }

    pub(super) fn on_connected(&mut self, now: Instant) {
        self.connected.get_or_insert(now);
    }

    /// How long this host has heard others.
    pub(super) fn connected_for(&self, now: Instant) -> Option<Duration> {
        self.connected.map(|since| now.duration_since(since))
    }

    /// Forgets what is old.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_new = |heard: &Instant| now.duration_since(*heard) < OLD;
        for claims in self.claims.values_mut() {
            let count = claims.len();
            claims.retain(|_, heard| is_new(heard));
            self.wants_others |= claims.len() < count;
        }
        self.claims.retain(|_, claims| !claims.is_empty());
        self.states.retain(|_, (_, heard)| is_new(heard));
    }

    pub(super) fn on_disconnected(&mut self, why: &str) {
        self.connected = None;
        self.away = why.to_owned();
    }

    /// A host lives. False if another host has the name of this one.
    pub(super) fn on_alive(&mut self, host: &str, alive: Alive, own_run: &str, now: Instant) -> bool {
        self.heard = Some(now);
        if host == self.me {
            return alive.run == own_run;
        }
        if alive.leaves {
            self.hosts.remove(host);
        } else if self.hosts.contains_key(host) || self.hosts.len() < HOSTS_MAX {
            let connected = self.connected.unwrap_or(now);
            let heard_on = |before: &&Heard| now.duration_since(before.last.max(connected)) < SILENT;
            let since = self.hosts.get(host).filter(heard_on).and_then(|before| before.watches);
            let since = since.unwrap_or(now);
            self.hosts.insert(host.to_owned(), Heard { last: now, watches: alive.watches.then_some(since) });
        }
        true
    }

    /// This host does not hear all others any more.
    pub(super) fn forget_hosts(&mut self) {
        self.hosts.clear();
    }

    /// Whether this host reports a silent one.
    pub(super) fn reports_silence(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| !fleet.silent.is_empty())
    }

    pub(super) fn on_claim(&mut self, address: IpAddr, host: &str, now: Instant) {
        if !self.addresses.contains_key(&address) {
            return;
        }
        let claims = self.claims.entry(address).or_default();
        let count = claims.len();
        claims.retain(|_, heard| now.duration_since(*heard) < SILENT);
        self.wants_others |= claims.len() < count;
        if claims.contains_key(host) || claims.len() < CLAIMS_MAX {
            self.wants_others |= claims.insert(host.to_owned(), now).is_none();
        }
    }

    pub(super) fn on_state(&mut self, host: &str, state: State, now: Instant) {
        let has_room = self.states.contains_key(host) || self.states.len() < STATES_MAX;
        if has_room && self.claimants().contains(host) {
            self.states.insert(host.to_owned(), (state, now));
        }
    }

    /// What of another host is held because of services of this one: each is reported once while it lasts.
    pub(super) fn on_held(&mut self, host: &str, held: Held) {
        let mut now = BTreeSet::new();
        for it in held.services {
            now.extend(self.names.foreign(host, &it.held).map(|id| (it.cause, id)));
        }
        let is_of_host = |id: ServiceId| self.names.foreign_name(id).is_some_and(|name| name.host == host);
        self.told.retain(|told| now.contains(told) || !is_of_host(told.1));
        for (service, id) in now {
            if self.told.len() < TOLD_MAX && self.told.insert((service.clone(), id)) {
                self.held.push(Report::Held { service, held: vec![id] });
            }
        }
    }

    /// The state of this host with the causes of its causes, as far as other hosts have published them.
    pub(super) fn with_chains(&self, mut state: State) -> State {
        let open = state.services.iter_mut().filter_map(|service| service.incident.as_mut());
        for open in open {
            let Some(cause) = open.chain.last() else { continue };
            let of_host = self.states.get(&cause.host).map(|(state, _)| &state.services);
            let of_cause = of_host.into_iter().flatten().find(|service| service.name == cause.service);
            let further =
                of_cause.and_then(|service| service.incident.as_ref()).map(|open| open.chain.clone());
            open.chain.extend(further.unwrap_or_default());
            open.chain.truncate(CHAIN_MAX);
        }
        state
    }

    /// How a service of another host is for those of this one. A failure that this host causes is no cause of others here:
    /// two services that need each other would hold each other for ever.
    fn standing(&self, service: &ServiceState) -> ForeignStanding {
        let chain = service.incident.iter().flat_map(|open| &open.chain);
        match chain.into_iter().any(|cause| cause.host == self.me) {
            true => ForeignStanding::Well,
            false => service.standing(),
        }
    }

    /// A service of this host connects to an address elsewhere.
    pub(super) fn connect(&mut self, client: ServiceId, remote: SocketAddr, now: Instant) {
        if !is_usable(remote.ip()) {
            return;
        }
        let is_known = self.addresses.contains_key(&remote.ip());
        if !is_known && self.addresses.len() >= ADDRESSES_MAX {
            self.make_room(now);
        }
        let has_room = is_known || self.addresses.len() < ADDRESSES_MAX;
        if has_room && (self.remotes.contains_key(&remote) || self.remotes.len() < CONNECTIONS_MAX) {
            self.remotes.entry(remote).or_default().insert(client);
            self.addresses.insert(remote.ip(), now);
            self.wants_others |= !is_known;
        }
    }

    /// Gives up the address that no host claims and that no service has connected to for longest: it is none of the fleet. A
    /// service that connects to the whole Internet would take all room otherwise.
    fn make_room(&mut self, now: Instant) {
        let unclaimed = self.addresses.iter().filter(|(address, last)| {
            now.duration_since(**last) >= UNCLAIMED && !self.claims.contains_key(address)
        });
        let oldest = unclaimed.min_by_key(|(_, last)| **last).map(|(address, _)| *address);
        let Some(oldest) = oldest else { return };
        self.addresses.remove(&oldest);
        self.claims.remove(&oldest);
        self.remotes.retain(|remote, _| remote.ip() != oldest);
        self.wants_others = true;
    }

    /// The addresses that services of this host connect to.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.keys().copied()
    }

    pub(super) fn want_others(&mut self) {
        self.wants_others = true;
    }

    /// Whether other subjects are wanted than when this was asked last.
    pub(super) fn take_wants_others(&mut self) -> bool {
        std::mem::take(&mut self.wants_others)
    }

    /// The hosts that claim one of them.
    pub(super) fn claimants(&self) -> BTreeSet<&str> {
        let all = self.claims.values().flat_map(BTreeMap::keys).map(String::as_str);
        all.filter(|host| *host != self.me).take(ADDRESSES_MAX).collect()
    }

    /// The states of these hosts are wanted.
    pub(super) fn wanted(&self) -> Vec<Key> {
        self.claimants().into_iter().map(|host| Key::State(host.to_owned())).collect()
    }

    /// The only host that claims an address.
    fn owner(&self, address: IpAddr, now: Instant) -> Option<&str> {
        let fresh = |heard: &Instant| now.duration_since(*heard) < SILENT;
        let claims = self.claims.get(&address)?;
        let mut owners = claims.iter().filter(|(_, heard)| fresh(heard)).map(|(host, _)| host.as_str());
        let owner = owners.next()?;
        (owners.next().is_none() && owner != self.me).then_some(owner)
    }

    /// What is new for the daemon.
    pub(super) fn reports(&mut self, now: Instant) -> Vec<Report> {
        let mut seen = self.seen(now);
        // What was known once, and is not now, says why.
        for (id, known) in &self.foreign {
            if !seen.contains_key(id) {
                let standing = ForeignStanding::Unknown(self.why_unknown(*id, now));
                seen.insert(*id, ForeignService { standing, ..known.clone() });
            }
        }
        let new = seen.iter().filter(|(id, it)| self.foreign.get(*id) != Some(*it));
        let mut reports: Vec<Report> = new.map(|(_, it)| Report::Foreign(it.clone())).collect();
        self.foreign = seen;
        reports.append(&mut self.held);
        let fleet = self.fleet_state(now);
        if self.fleet.as_ref() != Some(&fleet) {
            self.fleet = Some(fleet.clone());
            // Why nothing is known comes before what is unknown.
            reports.insert(0, Report::Fleet(fleet));
        }
        reports
    }

    fn seen(&self, now: Instant) -> BTreeMap<ServiceId, ForeignService> {
        let mut seen: BTreeMap<ServiceId, ForeignService> = BTreeMap::new();
        if self.connected.is_none() {
            return seen;
        }
        for (remote, clients) in &self.remotes {
            let Some(host) = self.owner(remote.ip(), now) else { continue };
            let state = self.states.get(host).filter(|(_, heard)| now.duration_since(*heard) < SILENT);
            let Some((state, _)) = state else { continue };
            let mut serving = state.services.iter().filter(|it| it.ports.contains(&remote.port()));
            // With two services on one port, neither is known to be the one.
            let (Some(service), None) = (serving.next(), serving.next()) else { continue };
            let Some(id) = self.names.foreign(host, &service.name) else { continue };
            let entry = seen.entry(id).or_insert_with(|| ForeignService {
                id,
                name: self.names.service(id).to_owned(),
                clients: Vec::new(),
                standing: self.standing(service),
            });
            entry.clients.extend(clients);
            entry.clients.sort_unstable();
            entry.clients.dedup();
        }
        seen
    }

    fn why_unknown(&self, id: ServiceId, now: Instant) -> String {
        let host = self.names.foreign_name(id).map_or("?", |name| &name.host);
        if self.connected.is_none() {
            return format!("the fleet cannot say how {} is: {}", self.names.service(id), self.away);
        }
        let is_heard = self.states.get(host).is_some_and(|(_, heard)| now.duration_since(*heard) < SILENT);
        match is_heard {
            true => format!(
                "the fleet cannot say how {} is: its address or its port is not its alone",
                self.names.service(id)
            ),
            false => {
                format!("the fleet cannot say how {} is: the host {host} is silent", self.names.service(id))
            }
        }
    }

    fn fleet_state(&mut self, now: Instant) -> FleetState {
        let Some(connected) = self.connected else {
            return FleetState { away: Some(self.away.clone()), silent: Vec::new() };
        };
        self.hosts.retain(|_, heard| now.duration_since(heard.last) < FORGOTTEN);
        if now.duration_since(connected) < SILENT {
            // Each host has as long to be heard again.
            let known = self.fleet.as_ref().map(|fleet| fleet.silent.clone());
            return FleetState { away: None, silent: known.unwrap_or_default() };
        }
        // Who hears not even itself has lost the server, and does not know it yet.
        let latest = self.heard.unwrap_or(connected);
        let is_silent = |heard: &Heard| latest.saturating_duration_since(heard.last.max(connected)) >= SILENT;
        let known: BTreeSet<&str> =
            self.fleet.iter().flat_map(|fleet| &fleet.silent).map(String::as_str).collect();
        // The first of those that hear all reports it, so that hosts that are lost together are one alert. It has to have heard
        // them: it was one of those before they were silent. What this host has reported stays its own.
        let earlier =
            self.hosts.iter().filter(|(host, heard)| !is_silent(heard) && rank(host) < rank(&self.me));
        let since = earlier.filter_map(|(_, heard)| heard.watches).min();
        let mine = self.hosts.iter().filter(|(host, heard)| {
            is_silent(heard)
                && (known.contains(host.as_str()) || since.is_none_or(|since| since > heard.last))
        });
        let silent = mine.map(|(host, _)| host.clone()).collect();
        FleetState { away: None, silent }
    }
}

#[cfg(test)]
#[path = "peers/tests.rs"]
mod tests;
