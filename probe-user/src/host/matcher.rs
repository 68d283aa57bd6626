//! Finds the main process of a service that another supervisor started.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{
    Survey,
    candidate::Candidate,
    pidfile::{self, PidfileError},
};
use crate::{config::Matcher, fact::ProcessKey};

impl Survey {
    /// The main process that a matcher means: of all processes that meet every condition, the oldest whose parent does
    /// not. None if there is none.
    ///
    /// The first call reads all processes, and with a port all their descriptors: milliseconds on a
    /// small host, much more on a large one.
    pub fn find_main(&self, matcher: &Matcher) -> Option<ProcessKey> {
        let Some(pidfile) = matcher.pidfile.as_deref() else { return self.find_any(matcher, |_| true) };
        let pid = pidfile::read(pidfile).ok()?;
        let named = self.read_all(&[pid]);
        topmost(named.iter().filter(|it| self.holds(matcher, it)))
            .or_else(|| self.find_in_namespace(matcher, pid))
    }

    /// What keeps a pidfile from naming a process of the service; None if it names one, or there is no file.
    pub fn pidfile_problem(&self, matcher: &Matcher) -> Option<String> {
        let pidfile = matcher.pidfile.as_deref()?;
        let problem = match pidfile::read(pidfile) {
            Err(PidfileError::Missing) => return None,
            Err(error) => error.to_string(),
            Ok(_) if self.find_main(matcher).is_some() => return None,
            Ok(pid) => match self.read_all(&[pid]).first() {
                None => format!("it names pid {pid}, which does not run"),
                Some(_) => {
                    format!("it names pid {pid}, which is not the service by the other parts of `match`")
                }
            },
        };
        Some(format!("{}: {problem}", pidfile.display()))
    }

    /// A pidfile that was written in another pid namespace has the pid of that namespace. Only another part of the
    /// matcher can say which process it means.
    fn find_in_namespace(&self, matcher: &Matcher, pid: u32) -> Option<ProcessKey> {
        let Matcher { exe, pidfile: _, port, address: _, cgroup, container } = matcher;
        let is_known = exe.is_some() || port.is_some() || cgroup.is_some() || container.is_some();
        let named = |it: &Candidate| it.namespaced_pid(self.reader()) == Some(pid);
        if is_known { self.find_any(matcher, named) } else { None }
    }

    fn find_any(&self, matcher: &Matcher, is_meant: impl Fn(&Candidate) -> bool) -> Option<ProcessKey> {
        let listening: Vec<Candidate>;
        let candidates = match matcher.port {
            Some(port) => {
                listening = self.read_all(&self.listening_on(port, matcher.address));
                &listening
            }
            None => self.candidates(),
        };
        topmost(candidates.iter().filter(|it| self.holds(matcher, it) && is_meant(it)))
    }

    /// Whether every part of a matcher but its pidfile holds for a process.
    fn holds(&self, matcher: &Matcher, it: &Candidate) -> bool {
        let Matcher { exe, pidfile: _, port, address, cgroup, container } = matcher;
        let reader = self.reader();
        port.is_none_or(|port| self.listening_on(port, *address).contains(&it.key.pid))
            && exe.as_ref().is_none_or(|exe| it.executes(exe, reader))
            && cgroup.as_ref().is_none_or(|cgroup| it.is_in(cgroup, reader))
            && container.as_ref().is_none_or(|id| it.is_in_container(id, reader))
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

/// The oldest process whose parent is not one of these.
fn topmost<'c>(found: impl Iterator<Item = &'c Candidate>) -> Option<ProcessKey> {
    let found: Vec<&Candidate> = found.collect();
    let pids: HashSet<u32> = found.iter().map(|it| it.key.pid).collect();
    let topmost = found.iter().filter(|it| !pids.contains(&it.parent));
    topmost.map(|it| it.key).min_by_key(|key| (key.start, key.pid))
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
    fn a_pidfile_of_another_pid_namespace_names_a_process_by_its_pid_there() {
        let host = FakeHost::v2();
        host.process(7, 1, "kworker", "/kworker");
        host.process(500, 1, "nginx", "/usr/sbin/nginx");
        host.write("proc/500/status", b"Name:\tnginx\nNSpid:\t500\t7\n");
        host.write("run/nginx.pid", b"7\n");
        let matcher = Matcher {
            pidfile: Some(host.root().join("run/nginx.pid")),
            exe: Some("/usr/sbin/nginx".into()),
            ..Matcher::default()
        };
        assert_eq!(survey(&host).find_main(&matcher), Some(key(500)));
        assert_eq!(survey(&host).pidfile_problem(&matcher), None);
        // Where nothing else says which process it is, the pid is that of the host.
        let alone = Matcher { exe: None, ..matcher };
        assert_eq!(survey(&host).find_main(&alone), Some(key(7)));
    }

    #[test]
    fn a_pidfile_that_names_no_process_of_the_service_says_why() {
        let host = FakeHost::v2();
        host.process(42, 1, "other", "/usr/bin/other");
        let pidfile = host.root().join("run/web.pid");
        let exe = Some("/usr/bin/web".into());
        let matcher = Matcher { pidfile: Some(pidfile), exe, ..Matcher::default() };
        let problem = |text: &str| {
            host.write("run/web.pid", text.as_bytes());
            assert_eq!(survey(&host).find_main(&matcher), None);
            survey(&host).pidfile_problem(&matcher).unwrap_or_default()
        };
        assert!(problem("42\n").contains("which is not the service by the other parts"));
        assert!(problem("4000\n").contains("which does not run"));
        assert!(problem("").ends_with("run/web.pid: it is empty"));
        assert!(problem("pid: 42").contains("should begin with a pid"));
        assert!(problem("1").contains("1 is not the pid of a service"));
        host.remove("run/web.pid");
        assert_eq!(survey(&host).pidfile_problem(&matcher), None);
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
