//! Listeners that come and go, connections that are made, and segments sent again, where no eBPF program tells of them:
//! found by comparing the sockets there are with those of the look before.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use crate::{
    clock::Timestamp,
    fact::{ProcessKey, ServiceId, Source},
    host::{Outbound, ProcReader, Sockets, sockdiag},
    kernel::{Cgroups, Listen, Owner, Retransmits},
};

/// Established connections are looked at only with every so many looks: there may be many.
const SELDOM: u64 = 5;

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
    listeners: HashMap<u64, (SocketAddr, Option<ProcessKey>)>,
    unacknowledged: HashMap<u64, u32>,
    mains: Vec<(ServiceId, ProcessKey)>,
}

impl Look {
    /// Nothing was looked at yet; `began` is when the daemon began to take stock.
    pub fn new(reader: ProcReader, began: Timestamp) -> Self {
        let own = reader.netns(std::process::id());
        let (listeners, unacknowledged, mains) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { reader, looks: 0, own, began, listeners, unacknowledged, mains }
    }

    /// Looks at the sockets of these services' main processes and their descendants.
    pub fn look(&mut self, mains: Vec<(ServiceId, ProcessKey)>) -> Changes {
        let now = Timestamp::now();
        let seldom = self.looks.is_multiple_of(SELDOM);
        self.looks += 1;
        let sockets = self.read(&mains, seldom);
        let mut changes = Changes::default();
        let before = std::mem::take(&mut self.listeners);
        for (inode, (address, owner)) in &before {
            let gone = owner.filter(|_| !sockets.listeners.contains_key(inode));
            changes.listeners.extend(gone.map(|owner| listen(now, false, *address, owner)));
        }
        let moved = mains != self.mains;
        let news = sockets.listeners.keys().any(|inode| !before.contains_key(inode));
        let stuck = !sockets.unacknowledged.is_empty();
        // Who holds a socket is only searched for when there is a question to answer.
        let owners = if moved || news || stuck { self.owners(&mains) } else { HashMap::new() };
        for (inode, address) in sockets.listeners {
            let runs = |main: &ProcessKey| mains.iter().any(|(_, it)| it == main);
            let known = before.get(&inode).and_then(|(_, owner)| owner.filter(runs));
            let found = owners.get(&inode).map(|(_, main)| *main).filter(|_| known.is_none());
            // What a process older than the daemon listened on when it was found is counted then.
            let counted = |main: &ProcessKey| main.start < self.began && !self.mains.iter().any(|(_, it)| it == main);
            let up = found.filter(|main| !counted(main));
            changes.listeners.extend(up.map(|main| listen(now, true, address, main)));
            self.listeners.insert(inode, (address, known.or(found)));
        }
        let before = if seldom { std::mem::take(&mut self.unacknowledged) } else { self.unacknowledged.clone() };
        for (inode, (remote, times)) in sockets.unacknowledged {
            let earlier = before.get(&inode).copied().unwrap_or_default();
            self.unacknowledged.insert(inode, times);
            let main = owners.get(&inode).map(|(_, main)| *main).filter(|_| times > earlier);
            changes.retransmits.extend(main.map(|main| again(main, remote, times - earlier)));
        }
        if seldom || moved {
            let families = self.reader.families();
            let connections = mains.iter().map(|(service, main)| {
                (*service, self.reader.outbound_of(&families.of(main.pid)))
            });
            changes.connections = connections.collect();
        }
        self.mains = mains;
        changes
    }

    /// The sockets of the daemon's own network namespace, and of those that services have of their own.
    fn read(&self, mains: &[(ServiceId, ProcessKey)], established: bool) -> Sockets {
        let me = std::process::id();
        let mut sockets = asked(established).unwrap_or_else(|_| self.reader.sockets_around(me));
        let mut seen: HashSet<Option<u32>> = HashSet::from([self.own, None]);
        for (_, main) in mains {
            if seen.insert(self.reader.netns(main.pid)) {
                let theirs = self.reader.sockets_around(main.pid);
                sockets.listeners.extend(theirs.listeners);
                sockets.unacknowledged.extend(theirs.unacknowledged);
            }
        }
        sockets
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
fn asked(established: bool) -> std::io::Result<Sockets> {
    let listeners = sockdiag::listeners()?;
    let unacknowledged = sockdiag::unacknowledged(established)?;
    Ok(Sockets {
        listeners: listeners.into_iter().map(|it| (it.inode, SocketAddr::new(it.address, it.port))).collect(),
        unacknowledged: unacknowledged.into_iter().map(|it| (it.inode, (it.remote, it.retransmits))).collect(),
    })
}

fn again(main: ProcessKey, remote: SocketAddr, times: u32) -> Retransmits {
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
