//! TCP sockets with both ends, as `/proc/PID/net/tcp` shows those of the process's own network namespace.

use std::{
    collections::{HashMap, HashSet},
    mem::MaybeUninit,
    net::SocketAddr,
    path::Path,
};

use rustix::fs::{Mode, OFlags, RawDir};

use super::{
    ProcReader, ReadError,
    tcp_table::{self, Queues, Row},
};
use crate::fact::TcpState;

/// The most kept sockets of one namespace.
const CONNECTIONS_MAX: usize = 65_536;

/// Room for the names of some hundred descriptors, in bytes.
const NAMES: usize = 8192;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub state: TcpState,
    /// Its local address; a mapped IPv4 address as IPv4.
    pub local: SocketAddr,
    /// The remote address; unspecified for a listener.
    pub remote: SocketAddr,
    /// Bytes written that the other side has not acknowledged.
    pub sending: u32,
    /// Bytes received that the process has not read. For a listener, the length of its accept queue.
    pub received: u32,
    /// The number of retransmits since the last acknowledgement.
    pub retransmits: u32,
    /// Its inode number; 0 if no process holds it, as while it waits to be accepted or closes.
    pub inode: u64,
}

impl ProcReader {
    /// The matching sockets below a `net` folder of `/proc`, at most 65,536 of them.
    pub(crate) fn connections(
        &self,
        net: &Path,
        of_interest: impl Fn(&Connection) -> bool,
    ) -> Result<Vec<Connection>, ReadError> {
        let mut found = Vec::new();
        tcp_table::read(net, tcp_table::TCP, |row| {
            if found.len() < CONNECTIONS_MAX {
                found.extend(connection(row).filter(|it| of_interest(it)));
            }
        })?;
        Ok(found)
    }

    /// The UDP sockets below a `net` folder of `/proc` that are connected to this port, and have received nothing that is
    /// still to be read.
    pub(super) fn datagrams_to(&self, net: &Path, port: u16) -> Result<Vec<Connection>, ReadError> {
        let mut found = Vec::new();
        tcp_table::read(net, tcp_table::UDP, |row| {
            let is_open = row.state == TcpState::Established && found.len() < CONNECTIONS_MAX;
            let socket = connection(row).filter(|_| is_open);
            found.extend(socket.filter(|it| it.remote.port() == port && it.received == 0));
        })?;
        Ok(found)
    }

    /// The inode numbers of the sockets that a process has open, one for each descriptor.
    pub(crate) fn socket_inodes(&self, pid: u32) -> Vec<u64> {
        let mut inodes = Vec::new();
        // A process that vanished, or whose files are unreadable, has none. The links are read below the open folder:
        // on a host with many descriptors their paths are most of the work.
        let folder = self.folder(pid).join("fd");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(&folder, flags, Mode::empty()) else { return inodes };
        let mut names = [MaybeUninit::uninit(); NAMES];
        let mut names = RawDir::new(&folder, &mut names);
        while let Some(Ok(name)) = names.next() {
            let name = name.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let target = rustix::fs::readlinkat(&folder, name, Vec::new());
            let target = target.ok().and_then(|target| target.into_string().ok());
            let inode =
                |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
            inodes.extend(target.as_deref().and_then(inode));
        }
        inodes
    }

    /// The processes that have each of these sockets open, the lowest pid first.
    pub(super) fn holders(&self, sockets: &HashSet<u64>) -> HashMap<u64, Vec<u32>> {
        let mut holders: HashMap<u64, Vec<u32>> = HashMap::new();
        if sockets.is_empty() {
            return holders;
        }
        let mut pids = self.pids().unwrap_or_default();
        pids.sort_unstable();
        for pid in pids {
            for inode in self.socket_inodes(pid).into_iter().filter(|inode| sockets.contains(inode)) {
                holders.entry(inode).or_default().push(pid);
            }
        }
        holders
    }

    /// Of several processes with one socket, the one with the lowest pid, which mostly is the parent of the others.
    pub(super) fn owners(&self, sockets: &HashSet<u64>) -> HashMap<u64, u32> {
        let holders = self.holders(sockets).into_iter();
        holders.filter_map(|(inode, pids)| Some((inode, *pids.first()?))).collect()
    }
}

fn connection(row: Row<'_>) -> Option<Connection> {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (local, remote) = (canonical(row.local()?), canonical(row.remote()?));
    let Queues { sending, received, retransmits } = row.queues()?;
    Some(Connection { state: row.state, local, remote, sending, received, retransmits, inode: row.inode()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn both_ends_queues_and_state_are_read() {
        let host = FakeHost::v2();
        let v4 = concat!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
            "   0: 0100007F:18EB 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 100 1\n",
            "   1: 0100007F:18EB 0100007F:C000 01 00000010:000000FF 00:00000000 00000000     0        0 101 1\n",
            "   2: 0100007F:18EB 0100007F 01 garbage\n\u{fffd}\n",
        );
        host.write("proc/net/tcp", v4.as_bytes());
        let v6 = "   0: 0000000000000000FFFF00000100007F:C000 0000000000000000FFFF00000100007F:18EB 08 \
                  00000000:00000001 00:00000000 00000000     0        0 0 1\n";
        host.write("proc/net/tcp6", v6.as_bytes());
        let reader = host.reader();
        let found = reader.connections(&reader.proc().join("net"), |_| true).unwrap();
        let at = |text: &str| text.parse().unwrap();
        let expected = [
            (TcpState::Listen, at("127.0.0.1:6379"), at("0.0.0.0:0"), 0, 3, 100),
            (TcpState::Established, at("127.0.0.1:6379"), at("127.0.0.1:49152"), 16, 255, 101),
            (TcpState::CloseWait, at("127.0.0.1:49152"), at("127.0.0.1:6379"), 0, 1, 0),
        ];
        let expected = expected.map(|(state, local, remote, sending, received, inode)| Connection {
            state,
            local,
            remote,
            sending,
            received,
            retransmits: 0,
            inode,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn datagrams_that_wait_for_an_answer_are_those_of_connected_sockets_without_one() {
        let host = FakeHost::v2();
        let row = |nth: u32, remote: &str, state: &str, received: &str, inode: u64| {
            format!(
                "  {nth}: 0100007F:B000 {remote} {state} 00000000:{received} 00:00000000 00000000     0        0 {inode} 2 x 0\n"
            )
        };
        let rows = [
            row(1, "4D00007F:0035", "01", "00000000", 100),
            row(2, "4D00007F:0035", "01", "00000300", 101),
            row(3, "4D00007F:0036", "01", "00000000", 102),
            row(4, "00000000:0000", "07", "00000000", 103),
        ];
        host.write("proc/net/udp", rows.concat().as_bytes());
        let reader = host.reader();
        let found = reader.datagrams_to(&reader.proc().join("net"), 53).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.inode, it.remote.to_string())).collect();
        assert_eq!(found, [(100, "127.0.0.77:53".to_owned())]);
    }

    #[test]
    fn a_shared_socket_is_its_elder_s() {
        let host = FakeHost::v2();
        for pid in [30, 10, 20] {
            host.process(pid, 1, "app", "/app");
            host.fd(pid, 3, "socket:[7]");
        }
        host.fd(20, 4, "socket:[8]");
        host.fd(20, 5, "/dev/null");
        let owners = host.reader().owners(&HashSet::from([7, 8, 9]));
        assert_eq!(owners, HashMap::from([(7, 10), (8, 20)]));
    }
}
