//! A start of the host without a shutdown before it.

use std::path::Path;

use super::Daemon;
use crate::{
    clock::Timestamp,
    fact::{HostCheck, HostReading, HostSubject, Memory, Observation, ServiceId, Source},
    store::last_run::EarlierRun,
};

/// Where most hosts keep their shutdowns.
const WTMP: &str = "/var/log/wtmp";

/// So many of the incidents that were open before are named.
const NAMED: usize = 4;

impl Daemon {
    /// Reports a start of the host that no shutdown came before, with what was wrong then.
    pub(super) fn report_reboot(&mut self, earlier: &EarlierRun, memories: &[(ServiceId, Memory)]) {
        if !self.config.host.reboot || !earlier.was_cut_off(&self.origin.boot_id, Path::new(WTMP)) {
            return;
        }
        let last_seen = jiff::Timestamp::try_from(earlier.last_seen).unwrap_or_default();
        let open =
            memories.iter().flat_map(|(service, memory)| memory.incidents().map(move |it| (service, it)));
        let open = open.map(|(service, open)| {
            format!("{}: {}", self.publisher.names().service(*service), open.incident.verdict.as_str())
        });
        let open: Vec<String> = open.take(NAMED).collect();
        let before = if open.is_empty() {
            "no incident was open then".to_owned()
        } else {
            format!("open then: {}", open.join(", "))
        };
        let words = format!(
            "the host was started again without being shut down, by a crash, a reset or a loss of power: it was last seen at \
             {last_seen:.0}; {before}"
        );
        let subject = HostSubject { check: HostCheck::Reboot, target: String::new() };
        let (at, source) = (Timestamp::now(), Source::Proc);
        let (value, limit) = (1.0, 1.0);
        self.observe(Observation::Host(HostReading {
            at,
            subject,
            source,
            value,
            limit,
            time_left: None,
            exhausted: false,
            root_has_room: false,
            device: None,
            words,
            fault: None,
        }));
    }
}
