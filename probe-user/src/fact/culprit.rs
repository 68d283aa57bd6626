//! Who took the memory before an OOM kill.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// The path of the memory cgroup with the limit; None for the memory of the host.
    pub cgroup: Option<String>,
    /// Such as `memory.max`.
    pub file: String,
    pub bytes: u64,
}

/// A process and the memory that it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryHolder {
    pub pid: u32,
    pub name: String,
    /// Resident memory, in bytes.
    pub bytes: u64,
}

/// A process that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrownProcess {
    pub holder: MemoryHolder,
    /// What it is to the service, such as `worker`; or its unit.
    pub role: Option<String>,
    /// In bytes.
    pub grown: u64,
    /// It may have grown by more: its size a minute before is only known to have been small.
    pub at_least: bool,
}

/// A memory cgroup that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrownGroup {
    pub path: String,
    /// In bytes.
    pub grown: u64,
    pub bytes: u64,
}

/// What explains that memory ran out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Culprit {
    /// Such as `the OOM killer`, `systemd-oomd`, `earlyoom`.
    pub killer: String,
    pub victim: MemoryHolder,
    pub limit: Option<MemoryLimit>,
    /// The process that grew most, within the limit that was reached.
    pub process: Option<GrownProcess>,
    /// The memory cgroup that grew most, within the limit that was reached.
    pub group: Option<GrownGroup>,
    /// The time over which both grew.
    pub over: Duration,
    /// The processes that held most at the kill, by the kernel's own report.
    #[serde(default)]
    pub largest: Vec<MemoryHolder>,
    /// How hard the kernel tried to free memory, in words.
    pub reclaim: Option<String>,
}

/// The most processes that are named beside the one that grew.
pub const LARGEST_MAX: usize = 3;

impl Culprit {
    /// All its foreign texts.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let limit = self.limit.as_mut().and_then(|limit| limit.cgroup.as_mut());
        let process = self.process.iter_mut().flat_map(|it| [Some(&mut it.holder.name), it.role.as_mut()]);
        let group = self.group.as_mut().map(|group| &mut group.path);
        let largest = self.largest.iter_mut().map(|it| Some(&mut it.name));
        [Some(&mut self.killer), Some(&mut self.victim.name), limit, group, self.reclaim.as_mut()]
            .into_iter()
            .chain(process)
            .chain(largest)
            .flatten()
    }
}

/// `killed by the OOM killer: its cgroup /system.slice/app.service reached memory.max 512 MiB; python3 (pid 4711, worker)
/// grew by 310 MiB in the last minute; the victim held 480 MiB`.
impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "killed by {}", self.killer)?;
        match &self.limit {
            Some(MemoryLimit { cgroup: Some(path), file, bytes }) => {
                write!(f, ": its cgroup {path} reached {file} {}", Bytes(*bytes))?;
            }
            Some(MemoryLimit { cgroup: None, bytes, .. }) => {
                write!(f, ": the host's {} of memory ran out", Bytes(*bytes))?;
            }
            None => {}
        }
        let over = Over(self.over);
        if let Some(GrownProcess { holder, role, grown, at_least }) = &self.process {
            let role = role.as_ref().map(|role| format!(", {role}")).unwrap_or_default();
            let least = if *at_least { "at least " } else { "" };
            let MemoryHolder { name, pid, .. } = holder;
            write!(f, "; {name} (pid {pid}{role}) grew by {least}{} in {over}", Bytes(*grown))?;
        }
        if let Some(group) = &self.group {
            write!(f, "; of the cgroups, {} grew most, by {}", group.path, Bytes(group.grown))?;
        }
        match &self.process {
            Some(it) if it.holder.pid == self.victim.pid => {
                write!(f, "; it is the victim, and held {}", Bytes(self.victim.bytes))?;
            }
            Some(_) | None if self.victim.bytes == 0 => {}
            Some(_) | None => {
                let MemoryHolder { name, pid, bytes } = &self.victim;
                write!(f, "; the victim {name} (pid {pid}) held {}", Bytes(*bytes))?;
            }
        }
        if !self.largest.is_empty() {
            let words = |it: &MemoryHolder| format!("{} (pid {}) {}", it.name, it.pid, Bytes(it.bytes));
            let largest: Vec<_> = self.largest.iter().map(words).collect();
            write!(f, "; at the kill the largest were {}", largest.join(", "))?;
        }
        if let Some(reclaim) = &self.reclaim {
            write!(f, "; {reclaim}")?;
        }
        Ok(())
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / 1_048_576.0;
        match mib {
            small if small < 10.0 => write!(f, "{small:.1} MiB"),
            medium if medium < 10_240.0 => write!(f, "{medium:.0} MiB"),
            large => write!(f, "{:.1} GiB", large / 1024.0),
        }
    }
}

struct Over(Duration);

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            55..=65 => f.write_str("the last minute"),
            seconds => write!(f, "the last {} s", seconds.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn culprit() -> Culprit {
        let holder = MemoryHolder { pid: 4711, name: "python3".to_owned(), bytes: 400 * MIB };
        Culprit {
            killer: "the OOM killer".to_owned(),
            victim: MemoryHolder { pid: 4000, name: "app".to_owned(), bytes: 480 * MIB },
            limit: Some(MemoryLimit {
                cgroup: Some("/system.slice/app.service".to_owned()),
                file: "memory.max".to_owned(),
                bytes: 512 * MIB,
            }),
            process: Some(GrownProcess {
                holder,
                role: Some("worker".to_owned()),
                grown: 310 * MIB,
                at_least: false,
            }),
            group: None,
            over: Duration::from_secs(60),
            largest: Vec::new(),
            reclaim: None,
        }
    }

    #[test]
    fn the_sentence_has_the_killer_the_limit_the_growth_and_the_victim() {
        assert_eq!(
            culprit().to_string(),
            "killed by the OOM killer: its cgroup /system.slice/app.service reached memory.max 512 MiB; \
             python3 (pid 4711, worker) grew by 310 MiB in the last minute; the victim app (pid 4000) held 480 MiB"
        );
    }

    #[test]
    fn a_host_that_ran_out_names_the_cgroup_and_the_reclaim() {
        let host = Culprit {
            limit: Some(MemoryLimit { cgroup: None, file: String::new(), bytes: 16 << 30 }),
            group: Some(GrownGroup { path: "/user.slice".to_owned(), grown: 3 << 30, bytes: 9 << 30 }),
            reclaim: Some("tasks waited for memory 63 % of the last 10 s".to_owned()),
            victim: MemoryHolder { pid: 4711, ..culprit().victim },
            ..culprit()
        };
        let words = host.to_string();
        assert!(words.contains(": the host's 16.0 GiB of memory ran out; "), "{words}");
        assert!(
            words.contains("; of the cgroups, /user.slice grew most, by 3072 MiB; it is the victim"),
            "{words}"
        );
        assert!(words.ends_with("63 % of the last 10 s"), "{words}");
    }
}
