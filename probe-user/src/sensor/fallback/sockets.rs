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
    sensor::record::{Cgroups, Listen, Owner, Retransmits},
};

/// Established connections are looked at only with every so many looks: there may be many…
const SELDOM: u64 = 5;

/// …but each time as long as a main process is younger than this, which is when it connects to what it needs.
const YOUNG: Duration = Duration::from_secs(15);

/// What is to be looked at: what no hook tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Listeners and connections.
    pub listeners: bool,
    /// Segments sent again.
    pub retransmits: bool,
}

impl Wanted {
    /// Whether anything is.
    pub fn any(&self) -> bool {
        self.listeners || self.retransmits
    }
}

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
    /// Those that listen, by inode number: where. None if they could not be read whole.
    listeners: Option<HashMap<u64, SocketAddr>>,
    /// The others, as far as they were asked for.
    connections: Vec<sockdiag::Connection>,
}

/// A listener that was found.
#[derive(Clone, Copy, Debug)]
struct Listening {
    address: SocketAddr,
    /// The main process of the service that has it open.
    main: Option<ProcessKey>,
    /// The look before did not find it any more: it may be opened anew, or have been missed.
    doubtful: bool,
}

/// Whose each open socket of a service is, by inode number.
type Owners = HashMap<u64, (ServiceId, ProcessKey)>;

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
    wanted: Wanted,
    mains: Vec<(ServiceId, ProcessKey)>,
    listeners: HashMap<u64, Listening>,
    /// The services' connections: whose, and how often something was sent again.
    connections: HashMap<Ends, (ProcessKey, u32)>,
}

impl Look {
    /// Nothing was looked at yet; `began` is when the daemon began to take stock.
    pub fn new(reader: ProcReader, began: Timestamp, wanted: Wanted) -> Self {
        let own = reader.netns(std::process::id());
        let (mains, listeners, connections) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { reader, looks: 0, own, began, wanted, mains, listeners, connections }
    }

    /// Looks at the sockets of these services' main processes and their descendants.
    pub fn look(&mut self, mains: Vec<(ServiceId, ProcessKey)>) -> Changes {
        let now = Timestamp::now();
        let young = mains.iter().any(|(_, main)| now.since(main.start) < YOUNG);
        let whole = young || self.looks.is_multiple_of(SELDOM);
        self.looks += 1;
        let sockets = self.read(&mains, whole);
        let is_new = |inode: &u64| !self.listeners.contains_key(inode);
        let news = mains != self.mains || sockets.listeners.iter().flat_map(HashMap::keys).any(is_new);
        // Who has a socket open is only searched for when there is a question to answer.
        let search = whole || news || !sockets.connections.is_empty();
        let owners = if search { self.owners(&mains) } else { Owners::new() };
        let mut changes = Changes::default();
        if self.wanted.listeners {
            // What could not be read whole says nothing of what is gone.
            if let Some(listeners) = &sockets.listeners {
                changes.listeners = self.compare_listeners(&mains, listeners, &owners, now);
            }
            if whole {
                changes.connections = self.outbound(&sockets, &owners);
            }
        }
        let again = self.compare_connections(&sockets, &owners, whole);
        if self.wanted.retransmits {
            changes.retransmits = again;
        }
        self.mains = mains;
        changes
    }

    fn compare_listeners(
        &mut self,
        mains: &[(ServiceId, ProcessKey)],
        found: &HashMap<u64, SocketAddr>,
        owners: &Owners,
        now: Timestamp,
    ) -> Vec<Listen> {
        let before = std::mem::take(&mut self.listeners);
        let mut changed = Vec::new();
        for (inode, listening) in before.iter().filter(|(inode, _)| !found.contains_key(inode)) {
            if listening.doubtful {
                changed.extend(listening.main.map(|main| listen(now, false, listening.address, main)));
            } else {
                self.listeners.insert(*inode, Listening { doubtful: true, ..*listening });
            }
        }
        for (inode, address) in found {
            let runs = |main: &ProcessKey| mains.iter().any(|(_, it)| it == main);
            let known = before.get(inode).and_then(|listening| listening.main.filter(runs));
            let new = owners.get(inode).map(|(_, main)| *main).filter(|_| known.is_none());
            // What a process older than the daemon listened on when it was found is counted then.
            let counted =
                |main: &ProcessKey| main.start < self.began && !self.mains.iter().any(|(_, it)| it == main);
            let up = new.filter(|main| !counted(main));
            changed.extend(up.map(|main| listen(now, true, *address, main)));
            let listening = Listening { address: *address, main: known.or(new), doubtful: false };
            self.listeners.insert(*inode, listening);
        }
        changed
    }

    fn compare_connections(&mut self, sockets: &Sockets, owners: &Owners, whole: bool) -> Vec<Retransmits> {
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
                again.push(sent_again(Timestamp::now(), main, socket.remote, socket.retransmits - earlier));
            }
            self.connections.insert(ends, (main, socket.retransmits));
        }
        again
    }

    /// To where each service is connected: what it asked for itself, not what it accepted.
    fn outbound(&self, sockets: &Sockets, owners: &Owners) -> Vec<(ServiceId, Outbound)> {
        let listening: HashSet<u16> =
            sockets.listeners.iter().flat_map(HashMap::values).map(SocketAddr::port).collect();
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
                sockets.listeners = sockets.listeners.zip(theirs.listeners).map(|(mut all, more)| {
                    all.extend(more);
                    all
                });
                sockets.connections.extend(theirs.connections);
            }
        }
        sockets
    }

    /// The sockets of the network namespace of a process, as `/proc` shows them.
    fn around(&self, pid: u32, whole: bool) -> Sockets {
        match self.reader.sockets_around(pid, whole) {
            Ok((listeners, connections)) => Sockets { listeners: Some(listeners), connections },
            Err(_) => Sockets::default(),
        }
    }

    /// Whose each open socket of a service is, by inode number.
    fn owners(&self, mains: &[(ServiceId, ProcessKey)]) -> Owners {
        let families = self.reader.families();
        let mut owners = Owners::new();
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
    Ok(Sockets { listeners: Some(listeners.collect()), connections: sockdiag::connections(whole)? })
}

fn sent_again(at: Timestamp, main: ProcessKey, remote: SocketAddr, times: u32) -> Retransmits {
    Retransmits {
        at_ns: at.as_nanos(),
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
