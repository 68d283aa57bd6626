//! From any pid to the service it belongs to, for processes without a record.

use super::{Enricher, membership::MAX_GENERATIONS};
use crate::{fact::ServiceId, host::cgroup::Hierarchy, sensor::record};

impl Enricher {
    /// The service that a living process belongs to, by its cgroup, by birth, or by descent as `/proc` shows it.
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
