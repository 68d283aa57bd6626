//! The connections that processes have asked for and still have.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
};

use super::{ProcReader, ReadError, connection::Connection, sockdiag};
use crate::fact::TcpState;

/// Where a service's processes are connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Inode of the network namespace of its main process.
    pub netns: Option<u32>,
    /// The other ends.
    pub remotes: BTreeSet<SocketAddr>,
}

impl ProcReader {
    /// What listens in the network namespace of a process, by inode number, and the connections for which something was
    /// sent again; if `established`, those that are connected as well. Fails if the process is gone.
    pub fn sockets_around(
        &self,
        pid: u32,
        established: bool,
    ) -> Result<(HashMap<u64, SocketAddr>, Vec<sockdiag::Connection>), ReadError> {
        let wanted = |it: &Connection| {
            it.state == TcpState::Listen
                || it.retransmits > 0
                || established && it.state == TcpState::Established
        };
        let all = self.connections(&self.folder(pid).join("net"), wanted)?;
        let (listeners, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|it| it.state == TcpState::Listen);
        let connection = |it: Connection| {
            let Connection { inode, local, remote, retransmits, .. } = it;
            sockdiag::Connection { inode, local, remote, retransmits }
        };
        let listeners = listeners.into_iter().map(|it| (it.inode, it.local)).collect();
        Ok((listeners, others.into_iter().map(connection).collect()))
    }

    /// The other ends of those of these sockets that the processes have open.
    pub(super) fn remotes(&self, pids: &[u32], sockets: &HashMap<u64, SocketAddr>) -> BTreeSet<SocketAddr> {
        if sockets.is_empty() {
            return BTreeSet::new();
        }
        let inodes = pids.iter().flat_map(|&pid| self.socket_inodes(pid));
        inodes.filter_map(|inode| sockets.get(&inode).copied()).collect()
    }

    /// The other ends of established sockets, by inode number; on a port that a process listens on, the
    /// other end opened the connection.
    pub(super) fn outbound(&self, net: &Path) -> HashMap<u64, SocketAddr> {
        let of_interest = [TcpState::Listen, TcpState::Established];
        // A process that vanishes meanwhile has no connections.
        let sockets = self.connections(net, |it| of_interest.contains(&it.state)).unwrap_or_default();
        let listening: BTreeSet<u16> =
            sockets.iter().filter(|it| it.state == TcpState::Listen).map(|it| it.local.port()).collect();
        let asked =
            |it: &&Connection| it.state == TcpState::Established && !listening.contains(&it.local.port());
        sockets.iter().filter(asked).map(|it| (it.inode, it.remote)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Survey, fake::FakeHost};

    fn table(local: &str, remote: &str, state: &str, inode: u64) -> String {
        format!(
            "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
        )
    }

    #[test]
    fn outbound_and_inbound_connections_differ() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.process(11, 10, "web", "/web");
        host.fd(10, 3, "socket:[1]");
        host.fd(10, 4, "socket:[2]");
        host.fd(11, 5, "socket:[3]");
        host.fd(11, 6, "socket:[9]");
        let v4 = [
            table("00000000:1F90", "00000000:0000", "0A", 1),
            table("0100007F:1F90", "0100007F:C350", "01", 2),
            table("0100007F:C351", "0100007F:18EB", "01", 3),
            table("0100007F:C352", "0100007F:18EC", "06", 9),
            "garbage\n".to_owned(),
        ];
        host.write("proc/10/net/tcp", v4.concat().as_bytes());
        let found = Survey::new(host.reader()).outbound_of(10);
        assert_eq!(found.remotes, BTreeSet::from(["127.0.0.1:6379".parse().unwrap()]));
        assert_eq!(Survey::new(host.reader()).outbound_of(999), Outbound::default());
    }

    #[test]
    fn connections_over_an_ipv6_socket_have_plain_addresses() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.fd(10, 3, "socket:[3]");
        let mapped =
            table("0000000000000000FFFF00000100007F:C351", "0000000000000000FFFF00000100007F:18EB", "01", 3);
        host.write("proc/10/net/tcp", b"");
        host.write("proc/10/net/tcp6", mapped.as_bytes());
        let found = Survey::new(host.reader()).outbound_of(10);
        assert_eq!(found.remotes, BTreeSet::from(["127.0.0.1:6379".parse().unwrap()]));
    }
}
