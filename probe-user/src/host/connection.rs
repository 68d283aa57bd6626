//! TCP sockets with both ends, as `/proc/PID/net/tcp` shows those of the process's own network namespace.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    mem::MaybeUninit,
    net::SocketAddr,
    path::Path,
};

use rustix::fs::{Mode, OFlags, RawDir};

use super::{ProcReader, ReadError, listener::ip, process::vanished};
use crate::fact::TcpState;

/// No more sockets than this are kept of one namespace.
const CONNECTIONS_MAX: usize = 65_536;

/// Room for the names of some hundred descriptors, in bytes.
const NAMES: usize = 8192;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its state.
    pub state: TcpState,
    /// Its own address; IPv4 where it is a mapped one.
    pub local: SocketAddr,
    /// The other side's; unspecified for a listener.
    pub remote: SocketAddr,
    /// Bytes written that the other side has not acknowledged.
    pub sending: u32,
    /// Bytes received that the process has not read; for a listener, connections that wait to be accepted.
    pub received: u32,
    /// How often the kernel has sent again what is not acknowledged, since it last was.
    pub retransmits: u32,
    /// Its inode number; 0 if no process holds it, as while it waits to be accepted or closes.
    pub inode: u64,
}

impl ProcReader {
    /// The sockets below a `net` folder of `/proc` that are of interest, at most 65,536 of them.
    pub(crate) fn connections(
        &self,
        net: &Path,
        of_interest: impl Fn(&Connection) -> bool,
    ) -> Result<Vec<Connection>, ReadError> {
        let mut found = Vec::new();
        for name in ["tcp", "tcp6"] {
            let path = net.join(name);
            let file = match File::open(&path) {
                Ok(file) => file,
                // A kernel without IPv6 has no tcp6.
                Err(error) if name == "tcp6" && vanished(&error) => continue,
                Err(source) => return Err(ReadError { path, source }),
            };
            for line in BufReader::with_capacity(64 * 1024, file).lines() {
                let line = line.map_err(ReadError::at(&path))?;
                let connection = connection(&line).filter(|it| of_interest(it));
                if found.len() < CONNECTIONS_MAX {
                    found.extend(connection);
                }
            }
        }
        Ok(found)
    }

    /// The inode numbers of the sockets that a process has open, one for each descriptor.
    pub(crate) fn socket_inodes(&self, pid: u32) -> Vec<u64> {
        let mut inodes = Vec::new();
        // A process that vanished, or whose files we may not see, has none to show. The links are read below the open
        // folder: on a host with many descriptors their paths are most of the work.
        let folder = self.folder(pid).join("fd");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(&folder, flags, Mode::empty()) else { return inodes };
        let mut names = [MaybeUninit::uninit(); NAMES];
        let mut names = RawDir::new(&folder, &mut names);
        while let Some(Ok(name)) = names.next() {
            let target = rustix::fs::readlinkat(&folder, name.file_name(), Vec::new());
            let target = target.ok().and_then(|target| target.into_string().ok());
            let inode =
                |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
            inodes.extend(target.as_deref().and_then(inode));
        }
        inodes
    }

    /// Which process has each of these sockets open; of several, the one with the lowest pid, which mostly is
    /// the one that the others were forked from.
    pub(super) fn owners(&self, sockets: &HashSet<u64>) -> HashMap<u64, u32> {
        let mut owners = HashMap::new();
        if sockets.is_empty() {
            return owners;
        }
        let mut pids = self.pids().unwrap_or_default();
        pids.sort_unstable();
        for pid in pids {
            for inode in self.socket_inodes(pid) {
                if sockets.contains(&inode) {
                    owners.entry(inode).or_insert(pid);
                }
            }
        }
        owners
    }
}

/// Reads a line of `/proc/net/tcp`; None for its heading and for what is none.
fn connection(line: &str) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (end(fields.next()?)?, end(fields.next()?)?);
    let state = TcpState::from_number(u8::from_str_radix(fields.next()?, 16).ok()?)?;
    let (sending, received) = fields.next()?.split_once(':')?;
    let queue = |hex: &str| u32::from_str_radix(hex, 16).ok();
    let (sending, received) = (queue(sending)?, queue(received)?);
    let retransmits = queue(fields.nth(1)?)?;
    let inode = fields.nth(2)?.parse().ok()?;
    Some(Connection { state, local, remote, sending, received, retransmits, inode })
}

fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    Some(SocketAddr::new(ip(address)?.to_canonical(), u16::from_str_radix(port, 16).ok()?))
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
