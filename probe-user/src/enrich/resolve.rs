//! The service that a process belongs to.

use super::{
    Enricher,
    groups::Home,
    membership::{MAX_GENERATIONS, service_of},
};
use crate::{
    clock::Timestamp,
    fact::{Membership, ProcessKey, ServiceId},
    host::cgroup::Hierarchy,
    sensor::record,
};

impl Enricher {
    /// The service that a process belongs to. `lineage` is the one it was born into, if its record has it.
    ///
    /// A descendant that was moved to another unit or container does not belong to the service; a login session is one,
    /// and so is a container's process. It belongs to the service whose main process is a nearer ancestor, if there is
    /// one.
    pub(super) fn member(
        &self,
        key: ProcessKey,
        parent: u32,
        cgroups: &record::Cgroups,
        lineage: Option<u32>,
    ) -> Option<Membership> {
        if let Some(member) = self.members.certainly_of(key, cgroups) {
            return Some(member);
        }
        let by_descent = || self.members.by_descent(key, parent, &self.table);
        // A process that is older than the lineages is known by its present ancestors.
        let service = lineage.and_then(service_of).or_else(|| self.born_to(key)).or_else(by_descent)?;
        let home = self.home(key, cgroups);
        let service = if self.is_away(service, &home) {
            by_descent().filter(|nearer| *nearer != service && !self.is_away(*nearer, &home))?
        } else {
            service
        };
        Some(Membership { service, main: false })
    }

    /// The service into whose lineage a living process was born.
    fn born_to(&self, key: ProcessKey) -> Option<ServiceId> {
        self.lineages.as_ref()?.of(key).and_then(service_of)
    }

    /// Whether a process of a service's lineage executed a file in another unit or container. Then its descendants do
    /// not belong to the service.
    pub fn has_left(&self, record: &record::Exec) -> bool {
        let Some(image) = record.image.as_ref().filter(|image| image.watched) else { return false };
        let key = ProcessKey::new(record.pid, Timestamp::from_nanos(image.start_ns));
        self.born_to(key).is_some_and(|service| self.is_away(service, &self.home(key, &image.cgroups)))
    }

    /// The unit and container of a process by its cgroups. On cgroup v1 the record has no id of systemd's own
    /// hierarchy, but `/proc` shows it while the process is there.
    fn home(&self, key: ProcessKey, cgroups: &record::Cgroups) -> Home {
        let home = self.groups.home(cgroups);
        if home.unit.is_some() || self.groups.say_all(cgroups) || self.reader.key_of(key.pid) != Some(key) {
            return home;
        }
        let now = self.groups.home_of(key.pid);
        Home { container: home.container.or(now.container), unit: now.unit }
    }

    /// Whether a process with this home belongs to another unit or container than a service, whose main process may
    /// have been moved since it was found.
    fn is_away(&self, service: ServiceId, home: &Home) -> bool {
        let main = || self.members.main_of(service).filter(|main| self.lives(*main));
        self.members.is_away(service, home)
            && main().is_none_or(|main| home.is_away_from(&self.groups.home_of(main.pid)))
    }

    /// The service that a living process belongs to, without a record of it: by its cgroup, by birth, or by descent as
    /// `/proc` shows it.
    pub fn service_of(&self, pid: u32) -> Option<ServiceId> {
        let home = self.groups.home_of(pid);
        let mut pid = pid;
        for _ in 0..MAX_GENERATIONS {
            let (key, parent_pid) = self.reader.descent(pid)?;
            let path = self.reader.cgroups().of(pid).v2;
            let v2 = path.and_then(|path| self.reader.cgroups().id(Hierarchy::V2, &path));
            let cgroups = record::Cgroups { v2, memory_v1: None };
            if let Some(member) = self.members.certainly_of(key, &cgroups) {
                let away = !member.main && self.is_away(member.service, &home);
                return (!away).then_some(member.service);
            }
            if let Some(service) = self.born_to(key) {
                return (!self.is_away(service, &home)).then_some(service);
            }
            // The climb is done here: a process that was forked and executed nothing is not in the table.
            pid = Some(parent_pid).filter(|parent| *parent > 1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        enrich::{Enricher, Members},
        fact::ServiceId,
        host::ProcReader,
    };

    #[test]
    fn a_process_is_its_ancestor_s_service_s() {
        let reader = ProcReader::new("/").unwrap();
        let me = std::process::id();
        let mut enricher = Enricher::new(reader.clone(), Members::default()).unwrap();
        assert_eq!(enricher.service_of(me), None);
        let parent = reader.key_of(reader.read(me).unwrap().parent_pid).unwrap();
        enricher.members.set_main(ServiceId(3), Some(parent));
        assert_eq!(enricher.service_of(me), Some(ServiceId(3)));
        assert_eq!(enricher.service_of(u32::MAX), None);
    }
}
