//! The connections at a service's listeners: which wait, which are served, and whose client has gone.
//!
//! A connection that waits to be accepted has no inode yet. The daemon's own probes wait as well, so they are told from
//! others: by the descriptors of the daemon while a probe runs, and afterwards because their client has gone.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
};

use super::{
    ProcReader,
    sockdiag::{self, ListenQueue},
};
use crate::fact::TcpState;

/// The connections at one port. Those of the daemon count as `unanswered` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCount {
    /// They wait to be accepted.
    pub waiting: u32,
    /// A process has accepted them.
    pub served: u32,
    /// Their client has closed them, and no process has noticed. The daemon's own are among them.
    pub abandoned: u32,
    /// Those of the daemon at these processes, over which nothing has come that it has not read: it waits for an answer.
    pub unanswered: u32,
}

impl ProcReader {
    /// The connections at some ports of the network namespace of these processes, by port. Empty if the kernel does not list
    /// them.
    pub fn client_counts(&self, pids: &[u32], ports: &[u16]) -> HashMap<u16, ClientCount> {
        let mut counts = HashMap::new();
        let Some(&main) = pids.first() else { return counts };
        let namespace = fs::read_link(self.folder(main).join("ns/net")).ok();
        let is_own = namespace.is_some() && namespace == self.own_namespace();
        let inodes: HashSet<u64> = self.socket_inodes(std::process::id()).into_iter().collect();
        let its: HashSet<u64> = pids.iter().flat_map(|&pid| self.socket_inodes(pid)).collect();
        let listeners = sockdiag::listeners().unwrap_or_default();
        for &port in ports {
            let probes = sockdiag::connections_to(port).unwrap_or_default();
            let own: HashMap<SocketAddr, bool> = probes
                .iter()
                .filter(|(it, _)| inodes.contains(&it.inode))
                .map(|(it, is_read)| (it.local, *is_read))
                .collect();
            let found =
                if is_own { sockdiag::connections_at(port).ok() } else { self.served_by_proc(main, port) };
            let Some(found) = found else { continue };
            let mut count = ClientCount::default();
            for (connection, is_open) in found {
                match (is_open, own.get(&connection.remote), connection.inode) {
                    (false, ..) => count.abandoned += 1,
                    (true, Some(is_read), inode) => {
                        let is_here = its.contains(&inode)
                            || inode == 0 && is_only_theirs(&listeners, connection.local, &its);
                        count.unanswered += u32::from(*is_read && is_here);
                    }
                    (true, None, 0) => count.waiting += 1,
                    (true, None, _) => count.served += 1,
                }
            }
            counts.insert(port, count);
        }
        counts
    }

    fn served_by_proc(&self, pid: u32, port: u16) -> Option<Vec<(sockdiag::Connection, bool)>> {
        let here = [TcpState::Established, TcpState::CloseWait];
        let found = self.connections(&self.folder(pid).join("net"), |it| {
            it.local.port() == port && here.contains(&it.state)
        });
        let connection = |it: super::connection::Connection| {
            let (inode, local, remote) = (it.inode, it.local, it.remote);
            let retransmits = it.retransmits;
            (sockdiag::Connection { inode, local, remote, retransmits }, it.state == TcpState::Established)
        };
        Some(found.ok()?.into_iter().map(connection).collect())
    }
}

/// Whether a connection that waits to be accepted at this address can be accepted by a listener of these alone.
fn is_only_theirs(listeners: &[ListenQueue], at: SocketAddr, theirs: &HashSet<u64>) -> bool {
    let on_port = || listeners.iter().filter(|it| it.port == at.port());
    let by_address: Vec<_> = on_port().filter(|it| it.address.to_canonical() == at.ip()).collect();
    let reached = if by_address.is_empty() {
        on_port().filter(|it| it.address.is_unspecified()).collect()
    } else {
        by_address
    };
    !reached.is_empty() && reached.iter().all(|it| theirs.contains(&it.inode))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream},
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_daemons_own_connections_are_requests_and_closed_ones_do_not_wait() {
        let reader = ProcReader::new("/").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port();
        let count = || reader.client_counts(&[std::process::id()], &[port])[&port];
        let own = TcpStream::connect(address).unwrap();
        assert_eq!(count(), ClientCount { unanswered: 1, ..ClientCount::default() });
        // bash can connect, and is another process.
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo; read line");
        let mut other = Command::new("/bin/bash");
        let mut other =
            other.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(count(), ClientCount { waiting: 1, unanswered: 1, ..ClientCount::default() });
        drop(own);
        // A child that another test forks has it as well until it executes its program.
        let by = Instant::now() + Duration::from_secs(60);
        while count().abandoned == 0 && Instant::now() < by {
            std::thread::yield_now();
        }
        assert_eq!(count(), ClientCount { waiting: 1, abandoned: 1, ..ClientCount::default() });
        let _own = listener.accept().unwrap();
        let _served = listener.accept().unwrap();
        assert_eq!(count(), ClientCount { served: 1, abandoned: 1, ..ClientCount::default() });
        drop(other.stdin.take());
        other.wait().unwrap();
        assert_eq!(count(), ClientCount { abandoned: 2, ..ClientCount::default() });
    }

    #[test]
    fn a_request_is_unanswered_until_anything_comes_and_only_at_the_process_that_has_it() {
        let reader = ProcReader::new("/").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let unanswered = |pid| reader.client_counts(&[pid], &[address.port()])[&address.port()].unanswered;
        let (own, mut other) = (std::process::id(), Command::new("/bin/sleep").arg("1000").spawn().unwrap());
        let _waiting = TcpStream::connect(address).unwrap();
        let mut asking = TcpStream::connect(address).unwrap();
        assert_eq!((unanswered(own), unanswered(other.id())), (2, 0), "both wait to be accepted");
        let _accepted = listener.accept().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!((unanswered(own), unanswered(other.id())), (2, 0));
        accepted.write_all(b"x").unwrap();
        assert_eq!(unanswered(own), 1, "an answer has come, and is not read yet");
        asking.read_exact(&mut [0]).unwrap();
        accepted.shutdown(Shutdown::Both).unwrap();
        assert_eq!(unanswered(own), 1, "it is over");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_connection_that_waits_is_at_the_listener_of_its_address() {
        let at = |address: &str, inode| {
            let address: SocketAddr = address.parse().unwrap();
            ListenQueue { address: address.ip(), port: address.port(), inode, waiting: 1, backlog: 9 }
        };
        let theirs = HashSet::from([1, 2]);
        let is =
            |listeners: &[ListenQueue], to: &str| is_only_theirs(listeners, to.parse().unwrap(), &theirs);
        let all = [at("0.0.0.0:80", 1), at("127.0.0.2:80", 3), at("127.0.0.1:81", 3)];
        assert!(is(&all, "127.0.0.1:80") && !is(&all, "127.0.0.2:80") && !is(&all, "127.0.0.1:82"));
        assert!(is(&[at("[::]:80", 2)], "127.0.0.1:80"), "it takes IPv4 as well");
        assert!(!is(&[at("127.0.0.1:80", 1), at("127.0.0.1:80", 3)], "127.0.0.1:80"), "SO_REUSEPORT");
    }
}
