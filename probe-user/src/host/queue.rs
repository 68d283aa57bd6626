//! The accept queues of listeners: established connections that no process has accepted yet.

use std::{collections::HashSet, fs, path::PathBuf};

use super::{ProcReader, sockdiag};
use crate::{
    clock::Timestamp,
    fact::{AcceptQueue, Source, TcpState},
};

/// Accept queues, each with the inode number of its listener.
pub type AcceptQueues = Vec<(u64, AcceptQueue)>;

impl ProcReader {
    /// The accept queues of the listeners that these processes hold.
    ///
    /// The kernel lists those of the daemon's own network namespace over netlink, which is the only way to learn the
    /// backlog. For processes of another namespace, `/proc/PID/net/tcp` has the waiting connections, and their backlog
    /// is `u32::MAX`, as unknown.
    pub fn accept_queues(&self, pids: &[u32]) -> AcceptQueues {
        let at = Timestamp::now();
        let mut tables: Vec<(Option<PathBuf>, AcceptQueues)> = Vec::new();
        let mut found: AcceptQueues = Vec::new();
        for &pid in pids {
            let inodes: HashSet<u64> = self.socket_inodes(pid).into_iter().collect();
            if inodes.is_empty() {
                continue;
            }
            let namespace = fs::read_link(self.folder(pid).join("ns/net")).ok();
            let known = tables.iter().position(|(known, _)| known.is_some() && *known == namespace);
            let known = known.unwrap_or_else(|| {
                let own = namespace.is_some() && namespace == self.own_namespace();
                let queues = own.then(|| own_queues(at)).flatten();
                tables.push((namespace, queues.unwrap_or_else(|| self.queues_by_proc(pid, at))));
                tables.len() - 1
            });
            for (inode, queue) in &tables[known].1 {
                if inodes.contains(inode) && !found.iter().any(|(other, _)| other == inode) {
                    found.push((*inode, *queue));
                }
            }
        }
        found
    }

    /// The daemon's own network namespace; None in a tree that is not this host's.
    pub(super) fn own_namespace(&self) -> Option<PathBuf> {
        fs::read_link(self.proc().join("self/ns/net")).ok()
    }

    fn queues_by_proc(&self, pid: u32, at: Timestamp) -> AcceptQueues {
        let net = self.folder(pid).join("net");
        // A process that vanishes meanwhile has no listeners.
        let listeners = self.connections(&net, |it| it.state == TcpState::Listen).unwrap_or_default();
        let queue = |it: super::connection::Connection| AcceptQueue {
            at,
            source: Source::Proc,
            address: it.local.ip(),
            port: it.local.port(),
            waiting: it.received,
            backlog: u32::MAX,
        };
        listeners.into_iter().map(|it| (it.inode, queue(it))).collect()
    }
}

/// The accept queues of the daemon's own network namespace; None if the kernel does not list them.
fn own_queues(at: Timestamp) -> Option<AcceptQueues> {
    let listeners = sockdiag::listeners().ok()?;
    Some(listeners.into_iter().map(|it| (it.inode, queue(&it, at))).collect())
}

/// The kernel's answer about a listener, as a fact.
pub fn queue(of: &sockdiag::ListenQueue, at: Timestamp) -> AcceptQueue {
    AcceptQueue {
        at,
        source: Source::Proc,
        address: of.address.to_canonical(),
        port: of.port,
        waiting: of.waiting,
        backlog: of.backlog,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn without_netlink_the_table_of_the_process_counts() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.fd(10, 3, "socket:[7]");
        host.fd(10, 4, "socket:[7]");
        let rows = concat!(
            "  0: 00000000:1F90 00000000:0000 0A 00000000:00000005 00:00000000 00000000 0 0 7 1\n",
            "  1: 00000000:1F91 00000000:0000 0A 00000000:00000009 00:00000000 00000000 0 0 8 1\n",
        );
        host.write("proc/10/net/tcp", rows.as_bytes());
        let found = host.reader().accept_queues(&[10, 999]);
        assert_eq!(found.len(), 1);
        let (inode, queue) = found[0];
        assert_eq!((inode, queue.port, queue.waiting, queue.backlog), (7, 8080, 5, u32::MAX));
        assert!(!queue.is_full());
    }

    #[test]
    fn a_full_queue_of_this_process_is_found_on_the_real_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        // The kernel queues one more than the backlog.
        let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let queues = ProcReader::new("/").unwrap().accept_queues(&[std::process::id()]);
        let (_, queue) = queues.into_iter().find(|(_, queue)| queue.port == address.port()).unwrap();
        assert_eq!((queue.address, queue.waiting, queue.backlog), (address.ip(), 2, 1));
        assert!(queue.is_full());
    }
}
