//! The process that takes the place of a main process that ended.

use std::collections::HashSet;

use super::{OwnCgroup, Survey, process::executable, read_record};
use crate::{
    fact::{ProcessKey, Successor},
    redact::redact,
};

/// `PF_FORKNOEXEC` in the kernel's `include/linux/sched.h`: it has forked and not executed a program since.
const FORKED: u32 = 0x40;

/// Room for the first two arguments if they are paths.
const ARGUMENTS_MAX: u64 = 8192;

/// Where the processes are that a main process left behind.
#[derive(Clone, Debug)]
pub enum LeftProcesses {
    InCgroup(OwnCgroup),
    /// In the process group or session that the main process led, or among these.
    OfGroup(u32, Vec<u32>),
}

/// A process that executed a program after its fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftProgram {
    pub pid: u32,
    /// Its process group.
    pub group: u32,
}

struct Heir {
    key: ProcessKey,
    parent: u32,
    name: String,
    executed: bool,
    /// On one of the service's ports.
    listens: bool,
    listens_elsewhere: bool,
}

impl Survey {
    /// The pids of the processes that a main process left behind.
    pub fn left(&self, left: &LeftProcesses) -> Vec<u32> {
        let reader = self.reader();
        match left {
            LeftProcesses::InCgroup(cgroup) => cgroup.members().unwrap_or_default(),
            LeftProcesses::OfGroup(leader, descendants) => {
                let leader = i32::try_from(*leader).unwrap_or_default();
                let is_left = |pid: &u32| {
                    descendants.contains(pid)
                        || reader.stat(*pid).is_some_and(|stat| stat.pgrp == leader || stat.session == leader)
                };
                reader.pids().unwrap_or_default().into_iter().filter(is_left).collect()
            }
        }
    }

    /// Of the processes that a main process left behind, those that executed a program after their fork.
    pub fn programs_left(&self, left: &LeftProcesses) -> Vec<LeftProgram> {
        let program = |pid: u32| {
            let stat = self.reader().living(pid).filter(|stat| stat.flags & FORKED == 0)?;
            Some(LeftProgram { pid, group: u32::try_from(stat.pgrp).unwrap_or_default() })
        };
        self.left(left).into_iter().filter_map(program).collect()
    }

    /// Of these processes, the one that can take the place of their main process. The processes that listen on one of
    /// these ports come first, then those that listen elsewhere, then the others; among them those that executed a
    /// program of their own. Of equals it is the topmost: one with workers, else the oldest.
    pub fn successor(&self, pids: &[u32], ports: &[u16]) -> Option<Successor> {
        let mut heirs: Vec<Heir> = pids.iter().filter_map(|&pid| self.heir(pid)).collect();
        let pids: Vec<u32> = heirs.iter().map(|heir| heir.key.pid).collect();
        let sockets = self.listeners_of(&pids);
        for heir in &mut heirs {
            let mut own = sockets.iter().filter(|it| it.pid == heir.key.pid);
            heir.listens = own.any(|it| ports.contains(&it.port));
            let elsewhere = || sockets.iter().any(|it| it.pid == heir.key.pid);
            heir.listens_elsewhere =
                !heir.listens && (elsewhere() || self.reader().listens_on_unix(heir.key.pid));
        }
        let best = heirs.iter().map(Heir::rank).max()?;
        let equals: Vec<&Heir> = heirs.iter().filter(|heir| heir.rank() == best).collect();
        let heir =
            topmost(&equals).min_by_key(|heir| (!leads(heir, &heirs), heir.key.start, heir.key.pid))?;
        let of_its_kind: Vec<&Heir> = heirs.iter().filter(|it| it.executed == heir.executed).collect();
        Some(Successor {
            process: heir.key,
            name: heir.name.clone(),
            executed: heir.executed,
            listens: heir.listens,
            listens_elsewhere: heir.listens_elsewhere,
            leads: leads(heir, &heirs),
            sole: topmost(&of_its_kind).count() == 1,
            programs: self.programs(heir.key.pid),
        })
    }

    /// The paths of what a process executes. A script has the interpreter and itself as its first two arguments, and the
    /// interpreter may be a symbolic link to the executable.
    fn programs(&self, pid: u32) -> Vec<String> {
        let folder = self.reader().folder(pid);
        let arguments = read_record(&folder.join("cmdline"), ARGUMENTS_MAX).unwrap_or_default();
        let first = arguments.split(|byte| *byte == 0).take(2).map(String::from_utf8_lossy);
        let paths = first.filter(|argument| argument.starts_with('/')).map(|path| redact(&path).into_owned());
        let mut programs: Vec<String> = executable(&folder.join("exe")).into_iter().chain(paths).collect();
        programs.dedup();
        programs
    }

    fn heir(&self, pid: u32) -> Option<Heir> {
        let reader = self.reader();
        let stat = reader.living(pid)?;
        let key = reader.key(pid, &stat);
        let parent = u32::try_from(stat.ppid).unwrap_or_default();
        let executed = stat.flags & FORKED == 0;
        let (listens, listens_elsewhere) = (false, false);
        Some(Heir { key, parent, name: stat.comm, executed, listens, listens_elsewhere })
    }
}

impl Heir {
    /// The higher, the fitter.
    fn rank(&self) -> (bool, bool, bool) {
        let serves = self.listens || self.listens_elsewhere;
        (self.listens, self.listens_elsewhere, serves && self.executed)
    }
}

/// Those of these processes whose parents are not among them.
fn topmost<'a>(heirs: &[&'a Heir]) -> impl Iterator<Item = &'a Heir> {
    let pids: HashSet<u32> = heirs.iter().map(|heir| heir.key.pid).collect();
    heirs.iter().copied().filter(move |heir| !pids.contains(&heir.parent)).collect::<Vec<_>>().into_iter()
}

/// Whether a child of this process listens as it does.
fn leads(heir: &Heir, heirs: &[Heir]) -> bool {
    heirs.iter().any(|child| {
        child.parent == heir.key.pid
            && (heir.listens && child.listens || heir.listens_elsewhere && child.listens_elsewhere)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn listener(host: &FakeHost, pids: &[u32]) {
        let line = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0\n";
        for pid in pids {
            host.write(&format!("proc/{pid}/net/tcp"), format!("  sl\n{line}").as_bytes());
            host.fd(*pid, 3, "socket:[7]");
        }
    }

    fn successor(host: &FakeHost, pids: &[u32], ports: &[u16]) -> Successor {
        Survey::new(host.reader()).successor(pids, ports).unwrap()
    }

    fn found(host: &FakeHost, pids: &[u32]) -> Option<(u32, bool, bool)> {
        let found = Survey::new(host.reader()).successor(pids, &[8080]);
        found.map(|found| (found.process.pid, found.executed, found.listens))
    }

    #[test]
    fn the_new_main_process_of_an_upgrade_comes_before_its_workers_and_those_of_the_former() {
        let host = FakeHost::v2();
        for (pid, parent) in [(11, 1), (20, 1), (21, 20), (22, 20)] {
            host.process(pid, parent, "nginx", "/nginx");
        }
        for worker in [11, 21, 22] {
            host.forked(worker);
        }
        listener(&host, &[11, 20, 21, 22]);
        assert_eq!(found(&host, &[22, 21, 20, 11]), Some((20, true, true)));
        let new = successor(&host, &[22, 21, 20, 11], &[8080]);
        assert!(new.leads && new.sole, "{new:?}");
        assert_eq!(new.programs, ["/nginx"]);
    }

    #[test]
    fn a_process_is_no_successor_of_itself_while_it_exits() {
        let host = FakeHost::v2();
        host.process(20, 1, "nginx", "/nginx");
        host.process(21, 20, "nginx", "/nginx");
        host.forked(21);
        listener(&host, &[20, 21]);
        assert_eq!(found(&host, &[20, 21]), Some((20, true, true)));
        host.exits(20);
        assert_eq!(found(&host, &[20, 21]), Some((21, false, true)));
        assert_eq!(Survey::new(host.reader()).programs_left(&LeftProcesses::OfGroup(20, vec![])), []);
    }

    #[test]
    fn workers_that_execute_a_program_have_siblings_and_no_workers() {
        let host = FakeHost::v2();
        for pid in [11, 12] {
            host.process(pid, 1, "python3", "/python3");
        }
        listener(&host, &[11, 12]);
        let worker = successor(&host, &[11, 12], &[8080]);
        assert!(worker.executed && worker.listens && !worker.leads && !worker.sole, "{worker:?}");
        let alone = successor(&host, &[12], &[8080]);
        assert!(alone.sole && !alone.leads, "{alone:?}");
    }

    #[test]
    fn a_listener_elsewhere_counts_less_than_one_on_the_port_and_more_than_none() {
        let host = FakeHost::v2();
        for pid in [10, 11, 12] {
            host.process(pid, 1, "web", "/web");
        }
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0: 00000002 00000000 00010000 0001 01 70 /run/web.sock\n\
             0: 00000003 00000000 00000000 0001 03 71 /run/web.sock\n";
        for (pid, inode) in [(11, 71), (12, 70)] {
            host.write(&format!("proc/{pid}/net/unix"), sockets.as_bytes());
            host.fd(pid, 3, &format!("socket:[{inode}]"));
        }
        let elsewhere = successor(&host, &[10, 11, 12], &[]);
        assert_eq!(
            (elsewhere.process.pid, elsewhere.listens, elsewhere.listens_elsewhere),
            (12, false, true)
        );
        listener(&host, &[10]);
        assert_eq!(found(&host, &[10, 11, 12]), Some((10, true, true)));
        let on_another_port = successor(&host, &[10, 11], &[9090]);
        assert_eq!((on_another_port.process.pid, on_another_port.listens_elsewhere), (10, true));
    }

    #[test]
    fn workers_alone_are_no_program_of_their_own() {
        let host = FakeHost::v2();
        for pid in [11, 12] {
            host.process(pid, 1, "nginx", "/nginx");
            host.forked(pid);
        }
        listener(&host, &[11, 12]);
        assert_eq!(found(&host, &[11, 12]), Some((11, false, true)));
    }

    #[test]
    fn a_process_that_does_not_listen_comes_last() {
        let host = FakeHost::v2();
        host.process(11, 1, "logger", "/logger");
        host.process(12, 1, "web", "/web");
        assert_eq!(found(&host, &[11, 12]), Some((11, true, false)));
        listener(&host, &[12]);
        assert_eq!(found(&host, &[11, 12]), Some((12, true, true)));
        assert_eq!(found(&host, &[]), None);
        assert_eq!(found(&host, &[99]), None);
    }

    #[test]
    fn without_a_cgroup_the_process_group_and_the_session_tell() {
        let host = FakeHost::v2();
        for pid in [10, 11, 12, 13] {
            host.process(pid, 1, "web", "/web");
        }
        let stat = std::fs::read_to_string(host.root().join("proc/11/stat")).unwrap();
        host.write("proc/11/stat", stat.replace(" 1 11 11 ", " 1 10 7 ").as_bytes());
        let mut left = Survey::new(host.reader()).left(&LeftProcesses::OfGroup(10, vec![13]));
        left.sort_unstable();
        assert_eq!(left, [10, 11, 13]);
        host.forked(13);
        let mut programs = Survey::new(host.reader()).programs_left(&LeftProcesses::OfGroup(10, vec![13]));
        programs.sort_unstable_by_key(|program| program.pid);
        assert_eq!(programs, [LeftProgram { pid: 10, group: 10 }, LeftProgram { pid: 11, group: 10 }]);
    }
}
