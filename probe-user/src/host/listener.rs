//! The processes that listen on TCP ports.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    net::IpAddr,
    path::Path,
};

use super::{ProcReader, ReadError, scan::in_parts, sockdiag, tcp_table};
use crate::fact::TcpState;

/// A TCP socket that listens, and a process that holds it. A shared socket is listed for each of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListeningSocket {
    /// The local address; unspecified for all addresses.
    pub address: IpAddr,
    pub port: u16,
    /// The process, as a pid of the initial namespace.
    pub pid: u32,
}

/// A socket's local end, by its inode number.
pub(super) type Sockets = HashMap<u64, (IpAddr, u16)>;

impl ProcReader {
    /// All sockets that listen in the daemon's own network namespace, with their processes, in order.
    pub fn listeners(&self) -> Result<Vec<ListeningSocket>, ReadError> {
        let sockets = self.own_listening()?;
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let parts = in_parts(&self.pids()?, |part| {
            let mut found = Vec::new();
            part.iter().for_each(|pid| self.join(*pid, &sockets, &mut found));
            found
        });
        let mut found = parts.concat();
        found.sort_unstable();
        Ok(found)
    }

    /// The listeners in the daemon's own network namespace.
    ///
    /// The kernel lists them over netlink. If it does not answer, and in a tree that is not this host's, the tables of
    /// `/proc` are read. For those the kernel goes through all connections.
    pub(super) fn own_listening(&self) -> Result<Sockets, ReadError> {
        match self.own_namespace().and_then(|_| sockdiag::listeners().ok()) {
            Some(sockets) => Ok(sockets.into_iter().map(|it| (it.inode, (it.address, it.port))).collect()),
            None => self.listening(&self.proc().join("net")),
        }
    }

    /// The listeners in the tables of this folder.
    pub(super) fn listening(&self, net: &Path) -> Result<Sockets, ReadError> {
        let mut sockets = Sockets::new();
        // Most lines of a busy host are connections, so the rest of such a line is not parsed.
        tcp_table::read(net, tcp_table::TCP, |row| {
            if row.state == TcpState::Listen
                && let (Some(local), Some(inode)) = (row.local(), row.inode())
            {
                sockets.insert(inode, (local.ip(), local.port()));
            }
        })?;
        Ok(sockets)
    }

    /// Whether a process listens on a Unix socket.
    pub(super) fn listens_on_unix(&self, pid: u32) -> bool {
        let open: HashSet<u64> = self.socket_inodes(pid).into_iter().collect();
        if open.is_empty() {
            return false;
        }
        let Ok(file) = File::open(self.folder(pid).join("net/unix")) else { return false };
        let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
        lines.filter_map(|line| unix_listener(&line)).any(|inode| open.contains(&inode))
    }

    /// Adds those of these sockets that a process has open.
    pub(super) fn join(&self, pid: u32, sockets: &Sockets, found: &mut Vec<ListeningSocket>) {
        let begin = found.len();
        for inode in self.socket_inodes(pid) {
            if let Some(&(address, port)) = sockets.get(&inode) {
                let socket = ListeningSocket { address, port, pid };
                // A descriptor may be duplicated.
                if !found[begin..].contains(&socket) {
                    found.push(socket);
                }
            }
        }
    }
}

/// The inode number of a Unix socket that listens, from its line in `/proc/net/unix`: number, references, protocol,
/// flags, type, state, inode and path.
fn unix_listener(line: &[u8]) -> Option<u64> {
    /// `__SO_ACCEPTCON` in the kernel's `include/uapi/linux/net.h`.
    const LISTENS: u32 = 1 << 16;
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let flags = u32::from_str_radix(str::from_utf8(fields.nth(3)?).ok()?, 16).ok()?;
    let inode = str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
    (flags & LISTENS != 0).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Survey, fake::FakeHost};

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

    pub(crate) fn line(local: &str, state: &str, inode: u64) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
        )
    }

    #[test]
    fn sockets_are_joined_with_their_processes() {
        let host = FakeHost::v2();
        let v4 = [
            HEAD.to_owned(),
            line("0100007F:18EB", "0A", 100),
            line("0100007F:18EB", "01", 101),
            "garbage\n".to_owned(),
            line("0100007F", "0A", 102),
            line("ZZZZZZZZ:0050", "0A", 103),
        ];
        host.write("proc/net/tcp", v4.concat().as_bytes());
        let v6 = [
            HEAD.to_owned(),
            line("00000000000000000000000001000000:1538", "0A", 200),
            line("00000000000000000000000000000000:0050", "0A", 201),
        ];
        host.write("proc/net/tcp6", v6.concat().as_bytes());
        host.process(10, 1, "redis", "/redis");
        host.fd(10, 3, "socket:[100]");
        host.fd(10, 4, "socket:[100]");
        host.fd(10, 5, "socket:[101]");
        host.fd(10, 6, "socket:[x]");
        host.fd(10, 7, "/dev/null");
        for pid in [20, 21] {
            host.process(pid, 1, "nginx", "/nginx");
            host.fd(pid, 3, "socket:[201]");
        }
        host.fd(20, 4, "socket:[200]");

        let found = host.reader().listeners().unwrap();
        let socket =
            |address: &str, port, pid| ListeningSocket { address: address.parse().unwrap(), port, pid };
        let expected = [
            socket("127.0.0.1", 6379, 10),
            socket("::", 80, 20),
            socket("::", 80, 21),
            socket("::1", 5432, 20),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_process_s_own_namespace_counts() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.fd(10, 3, "socket:[7]");
        host.write("proc/10/net/tcp", line("00000000:1F90", "0A", 7).as_bytes());
        let found = Survey::new(host.reader()).listeners_of(&[10, 999]);
        assert_eq!(found, [ListeningSocket { address: [0, 0, 0, 0].into(), port: 8080, pid: 10 }]);
    }

    #[test]
    fn no_table_is_an_error_with_its_path() {
        let error = FakeHost::v2().reader().listeners().unwrap_err();
        assert!(error.to_string().contains("proc/net/tcp"), "{error}");
    }

    #[test]
    fn a_listener_of_this_process_is_found_on_the_real_host() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let reader = ProcReader::new("/").unwrap();
        let expected = ListeningSocket { address: [127, 0, 0, 1].into(), port, pid: std::process::id() };
        assert!(reader.listeners().unwrap().contains(&expected));
        assert!(Survey::new(reader).listeners_of(&[std::process::id()]).contains(&expected));
    }
}
