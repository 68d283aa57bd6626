//! The processes that hold a service's port, or connections to it.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::SocketAddr,
    path::PathBuf,
};

use super::{ProcReader, connection::Connection, sockdiag};
use crate::fact::{PortHolder, TcpState};

/// The search for clients ends after this number of network namespaces: a large host has one for each container.
const NAMESPACES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its pid in the initial namespace.
    pub pid: u32,
    pub name: String,
    /// The number of connections.
    pub connections: u32,
}

impl ProcReader {
    /// The process that listens on one of these ports, in the daemon's own network namespace. Of several that share
    /// the listener it is the oldest, mostly the parent of the others. Without a listener it is a process with any
    /// socket on such a local port, which prevents a listener as well.
    pub fn port_holder(&self, ports: &[u16]) -> Option<PortHolder> {
        let sockets = self.connections(&self.proc().join("net"), |it| ports.contains(&it.local.port()));
        let mut sockets = sockets.ok()?;
        // Listeners first, then in the order of the ports.
        let place = |it: &Connection| ports.iter().position(|port| *port == it.local.port());
        sockets.sort_by_key(|it| (it.state != TcpState::Listen, place(it)));
        let wanted: HashSet<u64> = sockets.iter().map(|it| it.inode).filter(|inode| *inode != 0).collect();
        if wanted.is_empty() {
            return None;
        }
        let holders = self.holders(&wanted);
        sockets.iter().find_map(|socket| {
            let living = |pid: &u32| Some(self.key(*pid, &self.living(*pid)?));
            let eldest = holders.get(&socket.inode)?.iter().filter_map(living);
            let pid = eldest.min_by_key(|key| (key.start, key.pid))?.pid;
            let name = self.name_of(pid)?;
            Some(PortHolder { port: socket.local.port(), pid, name, unit: self.unit(pid), service: None })
        })
    }

    /// The processes of this host with connections to these local ports, most connections first.
    ///
    /// Both ends of such a connection are sockets of this host, so that a connection to the same port of another
    /// host is not counted; an end in another network namespace is found unless its address was translated.
    pub fn connections_to(&self, ports: &[u16]) -> Vec<Client> {
        let (mut servers, mut clients) = (HashSet::new(), Vec::new());
        for (namespace, net) in self.namespaces().into_iter().enumerate() {
            let of_interest = |it: &Connection| {
                it.state != TcpState::Listen
                    && (ports.contains(&it.local.port()) || ports.contains(&it.remote.port()))
            };
            for it in self.connections(&net, of_interest).unwrap_or_default() {
                // Loopback addresses are the same in every namespace, and mean another host in each.
                let place = it.local.ip().is_loopback().then_some(namespace);
                if ports.contains(&it.local.port()) {
                    servers.insert((place, it.local, it.remote));
                }
                if ports.contains(&it.remote.port()) && it.inode != 0 {
                    clients.push((place, it));
                }
            }
        }
        clients.retain(|(place, it)| servers.contains(&(*place, it.remote, it.local)));
        self.counted(clients.into_iter().map(|(_, it)| it.inode).collect())
    }

    /// The processes that are connected to Unix sockets of these listeners, most connections first. Empty if the
    /// kernel does not list its Unix sockets.
    pub fn unix_clients_of(&self, pids: &[u32]) -> Vec<Client> {
        if self.own_namespace().is_none() {
            return Vec::new();
        }
        let served: HashSet<u64> = pids.iter().flat_map(|pid| self.socket_inodes(*pid)).collect();
        let ends = sockdiag::unix_ends().unwrap_or_default();
        // An accepted socket has its listener's name. A client of another server has none.
        let accepted = ends.iter().filter(|end| end.named && served.contains(&end.inode));
        self.counted(accepted.map(|end| end.peer).collect())
    }

    /// For each of these sets of own ends, the process that has most of the connections with them, in the
    /// daemon's network namespace.
    pub fn owners_of(&self, sets: &[Vec<SocketAddr>]) -> Vec<Option<Client>> {
        let canonical = |end: &SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let ends: HashSet<SocketAddr> = sets.iter().flatten().map(canonical).collect();
        let of_interest = |it: &Connection| it.inode != 0 && ends.contains(&it.local);
        let sockets = self.connections(&self.proc().join("net"), of_interest).unwrap_or_default();
        let owners = self.owners(&sockets.iter().map(|it| it.inode).collect());
        let most = |set: &Vec<SocketAddr>| {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            let set: HashSet<SocketAddr> = set.iter().map(canonical).collect();
            for pid in
                sockets.iter().filter(|it| set.contains(&it.local)).filter_map(|it| owners.get(&it.inode))
            {
                *counts.entry(*pid).or_default() += 1;
            }
            self.clients(counts).into_iter().next()
        };
        sets.iter().map(most).collect()
    }

    /// The processes with these sockets open, and the number of sockets of each; the largest first.
    fn counted(&self, sockets: HashSet<u64>) -> Vec<Client> {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for pid in self.owners(&sockets).into_values() {
            *counts.entry(pid).or_default() += 1;
        }
        self.clients(counts)
    }

    fn clients(&self, counts: BTreeMap<u32, u32>) -> Vec<Client> {
        let client = |(pid, connections)| Some(Client { pid, name: self.name_of(pid)?, connections });
        let mut clients: Vec<Client> = counts.into_iter().filter_map(client).collect();
        clients.sort_by_key(|client| std::cmp::Reverse(client.connections));
        clients
    }

    pub(super) fn name_of(&self, pid: u32) -> Option<String> {
        Some(self.stat(pid)?.comm)
    }

    /// The `net` folder of one process of each network namespace; the daemon's own comes first.
    fn namespaces(&self) -> Vec<PathBuf> {
        let mut seen = HashSet::from([self.own_namespace()]);
        let mut folders = vec![self.proc().join("net")];
        for pid in self.pids().unwrap_or_default() {
            let namespace = fs::read_link(self.folder(pid).join("ns/net")).ok();
            if namespace.is_some() && seen.insert(namespace) {
                folders.push(self.folder(pid).join("net"));
                if folders.len() == NAMESPACES_MAX {
                    break;
                }
            }
        }
        folders
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::host::fake::FakeHost;

    fn row(local: &str, remote: &str, state: &str, inode: u64) -> String {
        format!("  0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n")
    }

    #[test]
    fn the_eldest_listener_holds_the_port_and_any_socket_is_in_the_way() {
        let host = FakeHost::v2();
        let rows = [
            row("0100007F:1F90", "0100007F:C000", "01", 5),
            row("00000000:1F90", "00000000:0000", "0A", 7),
            row("0100007F:1F91", "0100007F:C001", "01", 8),
            row("0100007F:1F92", "0100007F:C001", "06", 0),
        ];
        host.write("proc/net/tcp", rows.concat().as_bytes());
        for (pid, name) in [(30, "worker"), (20, "master"), (40, "client")] {
            host.process(pid, 1, name, "/x");
        }
        host.fd(30, 3, "socket:[7]");
        host.fd(20, 3, "socket:[7]");
        host.fd(40, 3, "socket:[5]");
        host.fd(40, 4, "socket:[8]");
        host.cgroup_file(20, "0::/system.slice/other.service\n");
        let holder = |ports: &[u16]| host.reader().port_holder(ports);
        let expected = PortHolder {
            port: 8080,
            pid: 20,
            name: "master".to_owned(),
            unit: Some("other.service".to_owned()),
            service: None,
        };
        assert_eq!(holder(&[9999, 8081, 8080]), Some(expected));
        assert_eq!(holder(&[8081]).unwrap().name, "client");
        assert_eq!((holder(&[8082]), holder(&[9999]), holder(&[])), (None, None, None));
        // The service whose port is in question exits, and still has its socket.
        host.exits(40);
        assert_eq!(holder(&[8081]), None);
    }

    #[test]
    fn clients_are_counted_by_process_and_only_those_of_this_host() {
        let host = FakeHost::v2();
        let rows = [
            row("0100007F:1538", "0100007F:C000", "01", 1),
            row("0100007F:C000", "0100007F:1538", "01", 11),
            row("0100007F:1538", "0100007F:C001", "01", 2),
            row("0100007F:C001", "0100007F:1538", "01", 12),
            row("0100007F:1538", "0100007F:C002", "01", 0),
            row("0100007F:C002", "0100007F:1538", "01", 13),
            // To a database on another host.
            row("0500000A:C003", "0600000A:1538", "01", 14),
            row("0100007F:C004", "0100007F:1539", "01", 15),
            // The server's end of a connection from another namespace.
            row("0100000A:1538", "0200000A:C005", "01", 3),
        ];
        host.write("proc/net/tcp", rows.concat().as_bytes());
        host.write("proc/60/net/tcp", row("0200000A:C005", "0100000A:1538", "01", 16).as_bytes());
        let elsewhere = [row("0100007F:C000", "0100007F:1538", "01", 17)];
        host.write("proc/70/net/tcp", elsewhere.concat().as_bytes());
        for (pid, name, sockets) in [
            (10, "postgres", &[1, 2, 3][..]),
            (40, "cron", &[11]),
            (50, "app", &[12, 13, 14, 15]),
            (60, "inside", &[16]),
            (70, "elsewhere", &[17]),
        ] {
            host.process(pid, 1, name, "/x");
            for (fd, inode) in (3..).zip(sockets) {
                host.fd(pid, fd, &format!("socket:[{inode}]"));
            }
        }
        host.link("proc/60/ns/net", "net:[2]");
        host.link("proc/70/ns/net", "net:[3]");
        let client = |pid, name: &str, connections| Client { pid, name: name.to_owned(), connections };
        let expected = [client(50, "app", 2), client(40, "cron", 1), client(60, "inside", 1)];
        assert_eq!(host.reader().connections_to(&[5432]), expected);
        assert_eq!(host.reader().connections_to(&[1]), []);

        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let sets =
            [vec![end(0xC000), end(0xC001), end(0xC002), end(1)], vec![end(1)], vec![], vec![end(0xC000)]];
        let expected = [Some(client(50, "app", 2)), None, None, Some(client(40, "cron", 1))];
        assert_eq!(host.reader().owners_of(&sets), expected);
    }

    #[test]
    fn this_very_process_holds_its_ports_and_connections_on_the_real_host() {
        let reader = ProcReader::new("/").unwrap();
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let clients = [0; 3].map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap());
        let me = std::process::id();
        let holder = reader.port_holder(&[port]).unwrap();
        assert_eq!((holder.pid, holder.port), (me, port));
        let found = reader.connections_to(&[port]);
        assert_eq!(found, [Client { pid: me, name: holder.name.clone(), connections: 3 }]);
        let owners = reader.owners_of(&[vec![clients[0].local_addr().unwrap()]]);
        assert_eq!(owners, [Some(Client { pid: me, name: holder.name, connections: 1 })]);
        drop(listener);
        drop(clients);
        assert_eq!(reader.connections_to(&[port]), []);
    }

    #[test]
    fn unix_clients_are_found_through_the_listener_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let clients = [0; 2].map(|_| UnixStream::connect(folder.path().join("socket")).unwrap());
        let servers = [0; 2].map(|_| listener.accept().unwrap().0);
        let me = std::process::id();
        let reader = ProcReader::new("/").unwrap();
        let found = reader.unix_clients_of(&[me]);
        // Other tests of this process may have Unix sockets, too.
        assert!(found.iter().any(|client| client.pid == me && client.connections >= 2), "{found:?}");
        assert_eq!(FakeHost::v2().reader().unix_clients_of(&[me]), []);
        drop((clients, servers));
    }
}
