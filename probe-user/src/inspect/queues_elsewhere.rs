//! Listeners in other network namespaces than the daemon's, such as those of containers.
//!
//! A socket of netlink lists those of its own namespace, and to enter another one takes `CAP_SYS_ADMIN`, which the daemon
//! does not keep. A listener itself tells how full it is. So the daemon duplicates it for the moment that this takes, with
//! `CAP_SYS_PTRACE`, which it keeps.

use std::{collections::HashMap, fs, os::fd::AsFd as _, time::Duration};

use rustix::{
    fs::fstat,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    clock::Timestamp,
    fact::{AcceptQueue, ProcessKey, ServiceId, Source},
    host::{
        ProcReader,
        open_socket::{accept_queue_of, duplicate},
    },
};

/// The listeners of a service are looked for again after this. It reads all descriptors of its processes.
const REFRESH: Duration = Duration::from_secs(20);

/// A process that is in the daemon's namespace is looked at again after this: it can leave it.
const RECHECK: Duration = Duration::from_secs(60);

/// The most listeners of a service.
const LISTENERS_MAX: usize = 64;

/// The listeners of the services in other network namespaces.
#[derive(Default)]
pub struct QueuesElsewhere {
    known: HashMap<ServiceId, Known>,
    /// The processes that are in the daemon's namespace, and when they were found there.
    here: HashMap<ProcessKey, Timestamp>,
}

struct Known {
    main: ProcessKey,
    found_at: Timestamp,
    listeners: Vec<Listener>,
}

#[derive(Clone, Copy)]
struct Listener {
    process: ProcessKey,
    descriptor: i32,
    inode: u64,
    queue: AcceptQueue,
}

impl QueuesElsewhere {
    /// Whether one of these services may be in another namespace.
    pub(super) fn concerns(&self, mains: &[(ServiceId, ProcessKey)], now: Timestamp) -> bool {
        mains.iter().any(|(_, main)| self.here.get(main).is_none_or(|at| now.since(*at) >= RECHECK))
    }

    /// The full listeners of these services. It can take long.
    pub(super) fn sample(
        mut self,
        reader: &ProcReader,
        mains: &[(ServiceId, ProcessKey)],
    ) -> (Self, Vec<(AcceptQueue, ServiceId)>) {
        let now = Timestamp::now();
        let namespace = |pid: &str| fs::read_link(reader.proc().join(pid).join("ns/net")).ok();
        let own = namespace("self");
        let (mut known, mut here) = (HashMap::new(), HashMap::new());
        let mut tree = None;
        for (service, main) in mains {
            let theirs = namespace(&main.pid.to_string());
            if theirs.is_none() || theirs == own {
                here.insert(*main, now);
                continue;
            }
            let before = self.known.remove(service);
            let before = before.filter(|it| it.main == *main && now.since(it.found_at) < REFRESH);
            let found = before.unwrap_or_else(|| {
                let pids = tree.get_or_insert_with(|| reader.process_tree()).of(main.pid);
                Known { main: *main, found_at: now, listeners: listeners(reader, &pids) }
            });
            known.insert(*service, found);
        }
        let mut full = Vec::new();
        for (service, found) in &known {
            let queues = found.listeners.iter().filter_map(|listener| listener.queue(reader, now));
            full.extend(
                queues.filter(|queue| queue.waiting > 0 && queue.is_full()).map(|queue| (queue, *service)),
            );
        }
        full.sort_by_key(|(queue, service)| (*service, queue.port, queue.address));
        (Self { known, here }, full)
    }
}

fn listeners(reader: &ProcReader, pids: &[u32]) -> Vec<Listener> {
    let queues: HashMap<u64, AcceptQueue> = reader.accept_queues(pids).into_iter().collect();
    let mut found: Vec<Listener> = Vec::new();
    for pid in pids {
        let Some(process) = reader.key_of(*pid) else { continue };
        for (descriptor, inode) in reader.open_sockets(*pid) {
            let is_known = found.iter().any(|listener| listener.inode == inode);
            if let Some(queue) = queues.get(&inode).filter(|_| !is_known && found.len() < LISTENERS_MAX) {
                found.push(Listener { process, descriptor, inode, queue: *queue });
            }
        }
    }
    found
}

impl Listener {
    /// How full it is; None if it is not open there any more, or the daemon may not ask.
    fn queue(&self, reader: &ProcReader, at: Timestamp) -> Option<AcceptQueue> {
        let pid = Pid::from_raw(i32::try_from(self.process.pid).ok()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The descriptor came first: a process that took the pid over has another start.
        if reader.key_of(self.process.pid) != Some(self.process) {
            return None;
        }
        let socket = duplicate(process.as_fd(), self.descriptor).ok()?;
        if fstat(&socket).ok()?.st_ino != self.inode {
            return None;
        }
        let (waiting, backlog) = accept_queue_of(&socket)?;
        Some(AcceptQueue { at, source: Source::Proc, waiting, backlog, ..self.queue })
    }
}
