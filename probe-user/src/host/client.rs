//! The connections at a service's listeners: which wait, which are served, and whose client has gone.
//!
//! A connection that waits to be accepted has no inode yet. The daemon's own probes wait as well, so they are told from
//! others: by the descriptors of the daemon while a probe runs, and afterwards because their client has gone.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
};

use super::{ProcReader, sockdiag};
use crate::fact::TcpState;

/// The connections at one port, without those of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCount {
    /// They wait to be accepted.
    pub waiting: u32,
    /// A process has accepted them.
    pub served: u32,
    /// Their client has closed them, and no process has noticed. The daemon's own are among them.
    pub abandoned: u32,
}

impl ProcReader {
    /// The connections at some ports of a process's network namespace, by port. Empty if the kernel does not list them.
    pub fn client_counts(&self, pid: u32, ports: &[u16]) -> HashMap<u16, ClientCount> {
        let namespace = fs::read_link(self.folder(pid).join("ns/net")).ok();
        let is_own = namespace.is_some() && namespace == self.own_namespace();
        let inodes: HashSet<u64> = self.socket_inodes(std::process::id()).into_iter().collect();
        let mut counts = HashMap::new();
        for &port in ports {
            let probes = sockdiag::connections_to(port).unwrap_or_default();
            let own: HashSet<SocketAddr> =
                probes.iter().filter(|it| inodes.contains(&it.inode)).map(|it| it.local).collect();
            let found =
                if is_own { sockdiag::connections_at(port).ok() } else { self.served_by_proc(pid, port) };
            let Some(found) = found else { continue };
            let mut count = ClientCount::default();
            for (connection, is_open) in found {
                match (is_open, connection.inode) {
                    (false, _) => count.abandoned += 1,
                    (true, _) if own.contains(&connection.remote) => {}
                    (true, 0) => count.waiting += 1,
                    (true, _) => count.served += 1,
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

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_daemons_own_connections_do_not_count_and_closed_ones_do_not_wait() {
        let reader = ProcReader::new("/").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port();
        let count = || reader.client_counts(std::process::id(), &[port])[&port];
        let own = TcpStream::connect(address).unwrap();
        assert_eq!(count(), ClientCount::default());
        // bash can connect, and is another process.
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo; read line");
        let mut other = Command::new("/bin/bash");
        let mut other =
            other.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert_eq!(count(), ClientCount { waiting: 1, ..ClientCount::default() });
        drop(own);
        // A child that another test forks has it as well until it executes its program.
        let by = Instant::now() + Duration::from_secs(60);
        while count().abandoned == 0 && Instant::now() < by {
            std::thread::yield_now();
        }
        assert_eq!(count(), ClientCount { waiting: 1, abandoned: 1, served: 0 });
        let _own = listener.accept().unwrap();
        let _served = listener.accept().unwrap();
        assert_eq!(count(), ClientCount { served: 1, abandoned: 1, waiting: 0 });
        drop(other.stdin.take());
        other.wait().unwrap();
        assert_eq!(count(), ClientCount { abandoned: 2, ..ClientCount::default() });
    }
}
