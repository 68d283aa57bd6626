//! The origin of events: the host, its boot, this run of the daemon, and the services' names.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, OnceLock},
};

use super::wire;
use crate::{
    clock::Timestamp,
    config::{Config, Identity},
    fact::{EventId, IncidentId, ServiceId},
};

/// The host, its boot, and this run of the daemon: the same on every event of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub host_name: String,
    /// The kernel's boot id; empty if unreadable.
    pub boot_id: String,
    /// Eight hexadecimal digits, new at each start of the daemon.
    pub ephemeral_id: String,
}

impl Origin {
    /// Reads it from `/proc`. A missing file leaves a default.
    pub fn read(proc: &Path) -> Self {
        let line = |file: &str| {
            let text = fs::read_to_string(proc.join("sys/kernel").join(file)).unwrap_or_default();
            text.trim().to_owned()
        };
        let mut host_name = line("hostname");
        if host_name.is_empty() {
            host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        let mut ephemeral_id = line("random/uuid");
        ephemeral_id.truncate(8);
        if ephemeral_id.len() < 8 || !ephemeral_id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            // Two starts of the daemon never share a nanosecond, so it tells runs apart.
            ephemeral_id = format!("{:08x}", Timestamp::now().as_nanos() as u32);
        }
        Self { host_name, boot_id: line("random/boot_id"), ephemeral_id }
    }

    pub fn event_id(&self, event: EventId) -> String {
        format!("{}-{}", self.ephemeral_id, event.0)
    }

    pub fn incident_id(&self, incident: IncidentId) -> String {
        match incident.run {
            None => format!("{}-i{}", self.ephemeral_id, incident.number),
            Some(run) => format!("{run:08x}-i{}", incident.number),
        }
    }

    /// The id of an incident in a later run.
    pub fn lasting(&self, id: IncidentId) -> IncidentId {
        // Eight hexadecimal digits.
        let own = u32::from_str_radix(&self.ephemeral_id, 16).unwrap_or_default();
        IncidentId { run: Some(id.run.unwrap_or(own)), ..id }
    }

    pub fn host(&self) -> wire::Host {
        wire::Host { name: self.host_name.clone(), boot: wire::Boot { id: self.boot_id.clone() } }
    }

    pub fn agent(&self) -> wire::Agent {
        wire::Agent {
            name: "hostprobe".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ephemeral_id: self.ephemeral_id.clone(),
        }
    }
}

/// The name of hostprobe itself, as the subject of an incident.
pub const OWN_NAME: &str = "hostprobe";

/// The name of the host, as the subject of an incident. No service may have it.
pub const HOST_NAME: &str = "host";

/// The names of the services by their ids; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Names {
    services: Arc<BTreeMap<ServiceId, Name>>,
    /// Services that reloads removed: facts about them may still be on their way.
    removed: Arc<BTreeMap<ServiceId, Name>>,
    /// Those of other hosts. All copies share them, so that each knows a name at once.
    foreign: Arc<OnceLock<Box<[OnceLock<ForeignName>]>>>,
}

/// The most services of one other host. A host that makes up names takes no room of others.
const FOREIGN_OF_HOST_MAX: usize = 64;

/// A service of another host. Neither name comes to be forgotten: there are at most [`ServiceId::FOREIGN_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignName {
    pub host: String,
    pub service: String,
    /// For people: `redis on db-1`.
    pub shown: String,
}

/// The id of hostprobe itself or of the host, by its name.
pub fn special(name: &str) -> Option<ServiceId> {
    match name {
        OWN_NAME => Some(ServiceId::DAEMON),
        HOST_NAME => Some(ServiceId::HOST),
        _ => None,
    }
}

/// The most removed services whose names are kept, the latest.
const MOST_REMOVED: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub service: String,
    /// Its systemd unit, if it is one.
    pub unit: Option<String>,
}

impl Names {
    /// The names of services in the order of their ids, from 0.
    pub fn new(names: impl IntoIterator<Item = Name>) -> Self {
        Self::by_id((0..).map(ServiceId).zip(names))
    }

    pub fn of(config: &Config) -> Self {
        Self::by_id(config.services.iter().map(|service| {
            let unit = match &service.identity {
                Identity::Unit(unit) => Some(unit.clone()),
                Identity::Exec(_) | Identity::Match(_) | Identity::Container(_) | Identity::Remote => None,
            };
            (service.id, Name { service: service.name.clone(), unit })
        }))
    }

    fn by_id(names: impl Iterator<Item = (ServiceId, Name)>) -> Self {
        Self { services: Arc::new(names.collect()), ..Self::default() }
    }

    /// The names of a configuration that takes the place of another one.
    pub fn after(config: &Config, before: &Self) -> Self {
        let names = Self::of(config);
        let mut removed = BTreeMap::clone(&before.removed);
        let gone = before.services.iter().filter(|(id, _)| !names.services.contains_key(id));
        removed.extend(gone.map(|(id, name)| (*id, name.clone())));
        while removed.len() > MOST_REMOVED {
            removed.pop_first();
        }
        Self { removed: Arc::new(removed), foreign: Arc::clone(&before.foreign), ..names }
    }

    /// With services that an earlier configuration had.
    pub fn with_removed(&self, removed: BTreeMap<ServiceId, Name>) -> Self {
        Self { removed: Arc::new(removed), ..self.clone() }
    }

    /// The first id that is free.
    pub fn next_id(&self) -> u32 {
        let last = [self.services.keys().next_back(), self.removed.keys().next_back()];
        last.into_iter().flatten().max().map_or(0, |id| id.0 + 1)
    }

    /// The id of a service, of hostprobe itself or of the host, by its name.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        let mut all = self.services.iter().chain(self.removed.iter());
        let found = all.find(|(_, known)| known.service == name).map(|(id, _)| *id);
        found.or_else(|| special(name))
    }

    /// With one more service, or another name of a known one.
    pub fn with(&self, id: ServiceId, name: Name) -> Self {
        let mut services = BTreeMap::clone(&self.services);
        services.insert(id, name);
        Self { services: Arc::new(services), ..self.clone() }
    }

    /// The number of a service of another host. None once there are too many of them.
    pub fn foreign(&self, host: &str, service: &str) -> Option<ServiceId> {
        let places =
            self.foreign.get_or_init(|| (0..ServiceId::FOREIGN_MAX).map(|_| OnceLock::new()).collect());
        let mut hasher = DefaultHasher::new();
        (host, service).hash(&mut hasher);
        let first = hasher.finish() as usize % places.len();
        let of_host = || places.iter().filter_map(OnceLock::get).filter(|name| name.host == host).count();
        // A name keeps the first free place from there on.
        for place in (0..places.len()).map(|step| (first + step) % places.len()) {
            if places[place].get().is_none() && of_host() >= FOREIGN_OF_HOST_MAX {
                return None;
            }
            let name = places[place].get_or_init(|| ForeignName {
                host: host.to_owned(),
                service: service.to_owned(),
                shown: format!("{service} on {host}"),
            });
            if name.host == host && name.service == service {
                return u32::try_from(place).ok().map(|place| ServiceId(ServiceId::FIRST_FOREIGN + place));
            }
        }
        None
    }

    /// The service of another host that has this number.
    pub fn foreign_name(&self, id: ServiceId) -> Option<&ForeignName> {
        let place = id.0.checked_sub(ServiceId::FIRST_FOREIGN)?;
        self.foreign.get()?.get(usize::try_from(place).ok()?)?.get()
    }

    /// The ids of the services that the configuration has.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.services.keys().copied()
    }

    /// The name of a service, of hostprobe itself or of the host; `?` for an unknown service.
    pub fn service(&self, id: ServiceId) -> &str {
        if id == ServiceId::DAEMON {
            return OWN_NAME;
        }
        if id == ServiceId::HOST {
            return HOST_NAME;
        }
        if let Some(name) = self.foreign_name(id) {
            return &name.shown;
        }
        self.get(id).map_or("?", |name| &name.service)
    }

    pub fn unit(&self, id: ServiceId) -> Option<&str> {
        self.get(id)?.unit.as_deref()
    }

    fn get(&self, id: ServiceId) -> Option<&Name> {
        self.services.get(&id).or_else(|| self.removed.get(&id))
    }

    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_its_proc_files() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("sys/kernel/random")).unwrap();
        let write = |file: &str, text| fs::write(proc.path().join("sys/kernel").join(file), text).unwrap();
        write("hostname", "db-1\n");
        write("random/boot_id", "0ddba11e-0000-4000-8000-000000000000\n");
        write("random/uuid", "c0ffee00-1111-4222-8333-444444444444\n");
        let origin = Origin::read(proc.path());
        assert_eq!(origin.host_name, "db-1");
        assert_eq!(origin.boot_id, "0ddba11e-0000-4000-8000-000000000000");
        assert_eq!(origin.event_id(EventId(7)), "c0ffee00-7");
        assert_eq!(origin.incident_id(IncidentId::new(2)), "c0ffee00-i2");
    }

    #[test]
    fn a_service_of_another_host_keeps_its_number_in_all_copies() {
        let names = Names::default();
        let copy = names.with_removed(BTreeMap::new());
        let redis = names.foreign("db-1", "redis").unwrap();
        assert!(redis.is_foreign());
        assert_eq!(copy.foreign("db-1", "redis"), Some(redis));
        assert_ne!(copy.foreign("db-2", "redis"), Some(redis));
        assert_eq!((copy.service(redis), copy.find("redis on db-1")), ("redis on db-1", None));
        for number in 0..ServiceId::FOREIGN_MAX {
            names.foreign("makes-up-names", &number.to_string());
        }
        assert!(
            names.foreign("makes-up-names", "more").is_none() && names.foreign("db-3", "redis").is_some()
        );
        for number in 0..ServiceId::FOREIGN_MAX {
            names.foreign(&format!("host-{number}"), "redis");
        }
        assert_eq!((names.foreign("one", "more"), names.foreign("db-1", "redis")), (None, Some(redis)));
    }

    #[test]
    fn a_host_without_proc_files_still_has_a_name_and_a_run() {
        let proc = tempfile::tempdir().unwrap();
        let origin = Origin::read(proc.path());
        assert!(!origin.host_name.is_empty());
        assert_eq!(origin.ephemeral_id.len(), 8);
    }
}
