//! Finds the main process of a service that another supervisor started.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{Survey, candidate::Candidate};
use crate::{config::Matcher, fact::ProcessKey, untrusted_file};

impl Survey {
    /// The main process that a matcher means: of all processes that meet every condition, the oldest whose parent does
    /// not. None if there is none.
    ///
    /// The first call reads all processes, and with a port all their descriptors: milliseconds on a
    /// small host, much more on a large one.
    pub fn find_main(&self, matcher: &Matcher) -> Option<ProcessKey> {
        let by_pidfile = matcher.pidfile.as_deref().map(pid_in);
        let read: Vec<Candidate>;
        let candidates = match (matcher.port, by_pidfile) {
            (Some(port), _) => {
                read = self.read_all(self.listening_on(port));
                &read
            }
            (None, Some(pid)) => {
                read = self.read_all(pid.as_slice());
                &read
            }
            (None, None) => self.candidates(),
        };
        let reader = self.reader();
        let holds = |it: &&Candidate| {
            by_pidfile.is_none_or(|pid| pid == Some(it.key.pid))
                && matcher.exe.as_ref().is_none_or(|exe| it.executes(exe, reader))
                && matcher.cgroup.as_ref().is_none_or(|cgroup| it.is_in(cgroup, reader))
                && matcher.container.as_ref().is_none_or(|id| it.is_in_container(id, reader))
        };
        let found: Vec<&Candidate> = candidates.iter().filter(holds).collect();
        let pids: HashSet<u32> = found.iter().map(|it| it.key.pid).collect();
        let topmost = found.iter().filter(|it| !pids.contains(&it.parent));
        topmost.map(|it| it.key).min_by_key(|key| (key.start, key.pid))
    }

    fn read_all(&self, pids: &[u32]) -> Vec<Candidate> {
        pids.iter().filter_map(|&pid| Candidate::read(self.reader(), pid)).collect()
    }
}

/// The process of a pidfile, and the state of the file at that time.
///
/// A dead service leaves its pidfile behind, and another process may soon get that pid. So a file that was not written
/// since it named a process does not name another one with the same pid. The times of the file and the process prove
/// nothing, because the host's clock may have been set between the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    process: ProcessKey,
    file: FileState,
}

/// The properties that change when a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    inode: u64,
    changed: (i64, i64),
}

impl FileState {
    fn of(file: &Path) -> Option<Self> {
        let file = fs::metadata(file).ok()?;
        Some(Self { inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}

impl Survey {
    /// [`Survey::find_main`] for a matcher that found `before` the last time. It updates `before`.
    pub fn find_main_again(&self, matcher: &Matcher, before: &mut Option<Named>) -> Option<ProcessKey> {
        let file = matcher.pidfile.as_deref().and_then(FileState::of);
        let found = self.find_main(matcher)?;
        let Some(file) = file else { return Some(found) };
        let stale = before.as_ref().is_some_and(|before| {
            before.file == file && before.process.pid == found.pid && before.process != found
        });
        if stale {
            return None;
        }
        *before = Some(Named { process: found, file });
        Some(found)
    }
}

/// Larger pidfiles are refused unread: another user may control the path.
const PIDFILE_MAX: u64 = 4096;

fn pid_in(pidfile: &Path) -> Option<u32> {
    let bytes = untrusted_file::read(pidfile, PIDFILE_MAX).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, host::fake::FakeHost};

    fn survey(host: &FakeHost) -> Survey {
        Survey::new(host.reader())
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey::new(pid, Timestamp::from_nanos(u64::from(pid) * 1_000_000_000))
    }

    #[test]
    fn a_pidfile_that_was_left_behind_does_not_name_a_later_process_with_its_pid() {
        let host = FakeHost::v2();
        host.write("run/web.pid", b"42\n");
        host.process(42, 1, "web", "/usr/bin/web");
        let matcher = Matcher { pidfile: Some(host.root().join("run/web.pid")), ..Matcher::default() };
        let mut named = None;
        assert_eq!(survey(&host).find_main_again(&matcher, &mut named), Some(key(42)));
        assert_eq!(
            survey(&host).find_main_again(&matcher, &mut named),
            Some(key(42)),
            "the same one is found again"
        );

        // The same pid, started later: another process.
        host.remove("proc/42");
        assert_eq!(survey(&host).find_main_again(&matcher, &mut named), None);
        host.process_started_at(42, 1, "other", "/usr/bin/other", 9999);
        assert_eq!(survey(&host).find_main_again(&matcher, &mut named), None);
        // Once the file is written again, it names this process.
        host.remove("run/web.pid");
        host.write("run/web.pid", b"42\n");
        assert_eq!(survey(&host).find_main_again(&matcher, &mut named).map(|key| key.pid), Some(42));
    }

    #[test]
    fn a_container_is_matched_by_the_beginning_of_its_id_or_by_its_whole_name() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for host in [FakeHost::v2(), FakeHost::hybrid(), FakeHost::v1()] {
            for (pid, group) in [
                (50, format!("/system.slice/docker-{id}.scope")),
                (51, format!("/machine.slice/libpod-conmon-{id}.scope")),
                (60, "/lxc.payload.web2/init.scope".to_owned()),
                (61, "/lxc.payload.web/init.scope".to_owned()),
                (62, "/lxc.monitor.web".to_owned()),
            ] {
                host.process(pid, 1, "init", "/init");
                host.cgroup_file(pid, &format!("4:memory:{group}\n1:name=systemd:{group}\n0::{group}\n"));
            }
            let found = |container: &str| {
                let matcher = Matcher { container: Some(container.to_owned()), ..Matcher::default() };
                survey(&host).find_main(&matcher).map(|key| key.pid)
            };
            assert_eq!(found("0123456789ab"), Some(50));
            assert_eq!(found(id), Some(50));
            assert_eq!(found("web"), Some(61), "not the one whose name begins like that");
            assert_eq!(found("we"), None);
            assert_eq!(found("fedcba987654"), None);
        }
    }
}
