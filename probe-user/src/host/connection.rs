//! The connections that processes have asked for and still have.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{ProcReader, listener::ip};

/// The states `TCP_ESTABLISHED` and `TCP_LISTEN`, as `/proc/net/tcp` prints them.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// Where a service's processes are connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Inode of the network namespace of its main process.
    pub netns: Option<u32>,
    /// The other ends.
    pub remotes: BTreeSet<SocketAddr>,
}

/// What a line of the table says of a socket: its state, its port, the other end, and its inode number.
type Line<'t> = (&'t str, u16, SocketAddr, u64);

impl ProcReader {
    /// Where these processes are connected to, in the network namespace of the first: what they have asked for
    /// themselves, not what they have accepted.
    pub fn connections_of(&self, pids: &[u32]) -> Connections {
        let Some(&main) = pids.first() else { return Connections::default() };
        let sockets = outbound(&self.folder(main).join("net"));
        let mut remotes = BTreeSet::new();
        for &pid in pids {
            remotes.extend(self.socket_inodes(pid).filter_map(|inode| sockets.get(&inode).copied()));
        }
        Connections { netns: self.netns(main), remotes }
    }
}

/// The other ends of established sockets, by inode number; of those on a port that somebody listens on, the other end
/// has asked.
fn outbound(net: &Path) -> HashMap<u64, SocketAddr> {
    // A process that vanishes meanwhile has no connections; a kernel without IPv6 has no tcp6.
    let tables = ["tcp", "tcp6"].map(|name| fs::read(net.join(name)).unwrap_or_default());
    let tables = tables.map(|table| String::from_utf8_lossy(&table).into_owned());
    let lines = || tables.iter().flat_map(|table| table.lines()).filter_map(line);
    let listening: BTreeSet<u16> =
        lines().filter(|(state, ..)| *state == LISTEN).map(|(_, port, ..)| port).collect();
    let outbound = lines().filter(|(state, port, ..)| *state == ESTABLISHED && !listening.contains(port));
    outbound.map(|(_, _, remote, inode)| (inode, remote)).collect()
}

fn line(line: &str) -> Option<Line<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = end(fields.nth(1)?)?;
    let (remote, remote_port) = end(fields.next()?)?;
    let state = fields.next()?;
    Some((state, port, SocketAddr::new(remote.to_canonical(), remote_port), fields.nth(5)?.parse().ok()?))
}

fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    Some((ip(address)?, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn table(local: &str, remote: &str, state: &str, inode: u64) -> String {
        format!(
            "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
        )
    }

    #[test]
    fn what_was_asked_for_is_told_from_what_was_accepted() {
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
        let found = host.reader().connections_of(&[10, 11, 999]);
        assert_eq!(found.remotes, BTreeSet::from(["127.0.0.1:6379".parse().unwrap()]));
        assert_eq!(host.reader().connections_of(&[]), Connections::default());
    }

    #[test]
    fn connections_over_an_ipv6_socket_have_plain_addresses() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.fd(10, 3, "socket:[3]");
        let mapped =
            table("0000000000000000FFFF00000100007F:C351", "0000000000000000FFFF00000100007F:18EB", "01", 3);
        host.write("proc/10/net/tcp6", mapped.as_bytes());
        let found = host.reader().connections_of(&[10]);
        assert_eq!(found.remotes, BTreeSet::from(["127.0.0.1:6379".parse().unwrap()]));
    }
}
