//! What systemd-oomd says of a kill: why it made room, which the kernel does not know.

use std::time::Duration;

use super::log_lines;
use crate::{
    clock::Timestamp,
    fact::{Culprit, MemoryHolder},
};

/// The name of the daemon in words and of its process.
const NAME: &str = "systemd-oomd";

/// How long before the fault of a service, and after it, systemd-oomd may have written its message.
const AROUND: Duration = Duration::from_secs(15);

/// The longest reason that is kept, in bytes.
const REASON_MAX: usize = 300;

/// A culprit with the reason of systemd-oomd, if that ended the unit. Without the hook on signals its message alone says so.
/// It blocks.
pub fn told(culprit: Option<Culprit>, unit: Option<&str>, fault: Timestamp) -> Option<Culprit> {
    let may_be = culprit.as_ref().is_none_or(|known| known.killer == NAME);
    let Some(unit) = unit.filter(|_| may_be) else { return culprit };
    let messages = log_lines::of_unit("systemd-oomd.service", fault, AROUND).unwrap_or_default();
    let Some((group, reason)) = messages.iter().rev().find_map(|line| kill(line, unit)) else {
        return culprit;
    };
    let culprit = culprit.unwrap_or_else(|| Culprit {
        killer: NAME.to_owned(),
        victim: MemoryHolder { pid: 0, name: group.to_owned(), bytes: 0 },
        limit: None,
        process: None,
        group: None,
        over: Duration::ZERO,
        largest: Vec::new(),
        reclaim: None,
    });
    let pressure = culprit.reclaim.map(|words| format!("; {words}")).unwrap_or_default();
    Some(Culprit { reclaim: Some(format!("systemd-oomd killed {group} {reason}{pressure}")), ..culprit })
}

/// The cgroup that a message says was killed, if it is that of a unit, and why. The forms are those that
/// systemd-oomd writes to the journal.
fn kill<'m>(message: &'m str, unit: &str) -> Option<(&'m str, &'m str)> {
    let (group, _) = message.strip_prefix("Killed ")?.split_once(" due to ")?;
    let reason = &message["Killed ".len() + group.len() + 1..];
    let is_own = group.split('/').any(|part| part == unit);
    is_own.then(|| (group, &reason[..reason.floor_char_boundary(REASON_MAX)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As hosts have it in their journals, with other names.
    const PRESSURE: &str = "Killed /system.slice/app.service due to memory pressure for /system.slice being 65.20% > \
                            60.00% for > 20s with reclaim activity";
    const SWAP: &str = "Killed /system.slice/app.service due to memory used (8031776768) / total (8232955904) and swap \
                        used (7516192768) / total (8232951808) being more than 90.00%";

    #[test]
    fn a_message_of_systemd_oomd_is_about_the_unit_whose_cgroup_it_names() {
        for message in [PRESSURE, SWAP] {
            let (group, reason) = kill(message, "app.service").unwrap();
            assert_eq!(group, "/system.slice/app.service");
            assert!(reason.starts_with("due to memory "), "{reason}");
            assert_eq!(kill(message, "pp.service"), None);
            assert_eq!(kill(message, "other.service"), None);
        }
        assert_eq!(kill("Memory pressure for /x is 70%", "x"), None);
    }

    #[test]
    fn another_killer_stays_as_it_is() {
        let holder = MemoryHolder { pid: 7, name: "app".to_owned(), bytes: 1 };
        let kernel = Culprit {
            killer: "the OOM killer".to_owned(),
            victim: holder,
            limit: None,
            process: None,
            group: None,
            over: Duration::ZERO,
            largest: Vec::new(),
            reclaim: None,
        };
        assert_eq!(told(Some(kernel.clone()), Some("a.service"), Timestamp::now()), Some(kernel));
        assert_eq!(told(None, None, Timestamp::now()), None);
    }
}
