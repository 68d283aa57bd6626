//! Listeners that come and go, connections that are made, and segments sent again, where no eBPF program tells of them:
//! found by comparing the sockets there are with those of the look before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    clock::Timestamp,
    fact::{ProcessKey, ServiceId, Source},
    host::{Outbound, ProcReader, sockdiag},
    kernel::{Cgroups, Listen, Owner, Retransmits},
};

/// Established connections are looked at only with every so many looks: there may be many…
const SELDOM: u64 = 5;

/// …but each time as long as a main process is younger than this, which is when it connects to what it needs.
const YOUNG: Duration = Duration::from_secs(15);

/// What has changed since the look before.
#[derive(Debug, Default)]
pub struct Changes {
    /// Listeners of services.
    pub listeners: Vec<Listen>,
    /// What services had to send again.
    pub retransmits: Vec<Retransmits>,
    /// To where services are connected, looked at now and then.
    pub connections: Vec<(ServiceId, Outbound)>,
}

/// The sockets there are.
#[derive(Debug, Default)]
struct Sockets {
    /// Those that listen, by inode number: where.
    listeners: HashMap<u64, SocketAddr>,
    /// The others, as far as they were asked for.
    connections: Vec<sockdiag::Connection>,
}

/// Both ends of a connection, which stay when nobody has it open any more.
type Ends = (SocketAddr, SocketAddr);

/// A look at the sockets of services, and what the one before found. It reads through `/proc`, and belongs on a thread
/// of its own.
#[derive(Debug)]
pub struct Look {
    reader: ProcReader,
    looks: u64,
    /// The network namespace of the daemon.
    own: Option<u32>,
    /// Processes older than this are taken stock of by others.
    began: Timestamp,
    mains: Vec<(ServiceId, ProcessKey)>,
    listeners: HashMap<u64, (SocketAddr, Option<ProcessKey>)>,
    /// The services' connections: whose, and how often something was sent again.
    connections: HashMap<Ends, (ProcessKey, u32)>,
}

impl Look {
    /// Nothing was looked at yet; `began` is when the daemon began to take stock.
    pub fn new(reader: ProcReader, began: Timestamp) -> Self {
        let own = reader.netns(std::process::id());
        let (mains, listeners, connections) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { reader, looks: 0, own, began, mains, listeners, connections }
    }

    /// Looks at the sockets of these services' main processes and their descendants.
    pub fn look(&mut self, mains: Vec<(ServiceId, ProcessKey)>) -> Changes {
        let now = Timestamp::now();
        let young = mains.iter().any(|(_, main)| now.since(main.start) < YOUNG);
        let whole = young || self.looks.is_multiple_of(SELDOM);
        self.looks += 1;
        let sockets = self.read(&mains, whole);
        let news =
            mains != self.mains || sockets.listeners.keys().any(|inode| !self.listeners.contains_key(inode));
        // Who has a socket open is only searched for when there is a question to answer.
        let search = whole || news || !sockets.connections.is_empty();
        let owners = if search { self.owners(&mains) } else { HashMap::new() };
        let mut changes = Changes {
            listeners: self.compare_listeners(&mains, &sockets, &owners, now),
            retransmits: self.compare_connections(&sockets, &owners, whole),
            connections: Vec::new(),
        };
        if whole {
            changes.connections = self.outbound(&sockets, &owners);
        }
        self.mains = mains;
        changes
    }

    fn compare_listeners(
        &mut self,
        mains: &[(ServiceId, ProcessKey)],
        sockets: &Sockets,
        owners: &HashMap<u64, (ServiceId, ProcessKey)>,
        now: Timestamp,
    ) -> Vec<Listen> {
        let before = std::mem::take(&mut self.listeners);
        let mut changed = Vec::new();
        for (inode, (address, owner)) in &before {
            let gone = owner.filter(|_| !sockets.listeners.contains_key(inode));
            changed.extend(gone.map(|owner| listen(now, false, *address, owner)));
        }
        for (inode, address) in &sockets.listeners {
            let runs = |main: &ProcessKey| mains.iter().any(|(_, it)| it == main);
            let known = before.get(inode).and_then(|(_, owner)| owner.filter(runs));
            let found = owners.get(inode).map(|(_, main)| *main).filter(|_| known.is_none());
            // What a process older than the daemon listened on when it was found is counted then.
            let counted =
                |main: &ProcessKey| main.start < self.began && !self.mains.iter().any(|(_, it)| it == main);
            let up = found.filter(|main| !counted(main));
            changed.extend(up.map(|main| listen(now, true, *address, main)));
            self.listeners.insert(*inode, (*address, known.or(found)));
        }
        changed
    }

    fn compare_connections(
        &mut self,
        sockets: &Sockets,
        owners: &HashMap<u64, (ServiceId, ProcessKey)>,
        whole: bool,
    ) -> Vec<Retransmits> {
        // What is not there any more is forgotten when all there is was looked at.
        let mut before = self.connections.clone();
        if whole {
            self.connections.clear();
        }
        let mut again = Vec::new();
        for socket in &sockets.connections {
            let ends = (socket.local, socket.remote);
            let known = before.remove(&ends);
            // One that was closed has no owner any more, but what it sent may still be on its way.
            let main = owners.get(&socket.inode).map(|(_, main)| *main).or(known.map(|(main, _)| main));
            let Some(main) = main else { continue };
            let earlier = known.map_or(0, |(_, times)| times);
            if socket.retransmits > earlier {
                again.push(sent_again(main, socket.remote, socket.retransmits - earlier));
            }
            self.connections.insert(ends, (main, socket.retransmits));
        }
        again
    }

    /// To where each service is connected: what it asked for itself, not what it accepted.
    fn outbound(
        &self,
        sockets: &Sockets,
        owners: &HashMap<u64, (ServiceId, ProcessKey)>,
    ) -> Vec<(ServiceId, Outbound)> {
        let listening: HashSet<u16> = sockets.listeners.values().map(SocketAddr::port).collect();
        let mut remotes: BTreeMap<(ServiceId, u32), BTreeSet<SocketAddr>> = BTreeMap::new();
        for socket in sockets.connections.iter().filter(|it| !listening.contains(&it.local.port())) {
            if let Some((service, main)) = owners.get(&socket.inode) {
                remotes.entry((*service, main.pid)).or_default().insert(socket.remote);
            }
        }
        let outbound =
            |(service, pid), remotes| (service, Outbound { netns: self.reader.netns(pid), remotes });
        remotes.into_iter().map(|(of, remotes)| outbound(of, remotes)).collect()
    }

    /// The sockets of the daemon's own network namespace, and of those that services have of their own.
    fn read(&self, mains: &[(ServiceId, ProcessKey)], whole: bool) -> Sockets {
        let mut sockets = asked(whole).unwrap_or_else(|_| self.around(std::process::id(), whole));
        let mut seen = HashSet::from([self.own, None]);
        for (_, main) in mains {
            if seen.insert(self.reader.netns(main.pid)) {
                let theirs = self.around(main.pid, whole);
                sockets.listeners.extend(theirs.listeners);
                sockets.connections.extend(theirs.connections);
            }
        }
        sockets
    }

    /// The sockets of the network namespace of a process, as `/proc` shows them.
    fn around(&self, pid: u32, whole: bool) -> Sockets {
        let (listeners, connections) = self.reader.sockets_around(pid, whole);
        Sockets { listeners, connections }
    }

    /// Whose each open socket of a service is, by inode number.
    fn owners(&self, mains: &[(ServiceId, ProcessKey)]) -> HashMap<u64, (ServiceId, ProcessKey)> {
        let families = self.reader.families();
        let mut owners = HashMap::new();
        for (service, main) in mains {
            for pid in families.of(main.pid) {
                for inode in self.reader.socket_inodes(pid) {
                    owners.entry(inode).or_insert((*service, *main));
                }
            }
        }
        owners
    }
}

/// The sockets of the daemon's own network namespace, by the kernel's answer over netlink.
fn asked(whole: bool) -> std::io::Result<Sockets> {
    let listeners = sockdiag::listeners()?;
    let listeners = listeners.into_iter().map(|it| (it.inode, SocketAddr::new(it.address, it.port)));
    Ok(Sockets { listeners: listeners.collect(), connections: sockdiag::connections(whole)? })
}

fn sent_again(main: ProcessKey, remote: SocketAddr, times: u32) -> Retransmits {
    Retransmits {
        source: Source::Netlink,
        owner: Owner { pid: main.pid, parent_pid: 0, start_ns: main.start.as_nanos() },
        cgroups: Cgroups::default(),
        remote,
        count: times.into(),
    }
}

fn listen(at: Timestamp, up: bool, address: SocketAddr, main: ProcessKey) -> Listen {
    Listen {
        at_ns: at.as_nanos(),
        source: Source::Netlink,
        up,
        address: address.ip(),
        port: address.port(),
        pid: main.pid,
        start_ns: main.start.as_nanos(),
        cgroups: Cgroups::default(),
        comm: String::new(),
    }
}
