//! Listeners that come and go, connections that are made, and segments sent again, where the hook is missing: found by
//! comparing the sockets there are with those of the scan before.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    clock::Timestamp,
    fact::{ProcessKey, Source},
    host::{ProcReader, sockdiag},
    sensor::record::{Cgroups, Connect, Listen, Owner, Record, Retransmits},
};

/// Established connections are read only in every fifth scan: there may be many…
const SELDOM: u64 = 5;

/// …but each time as long as a main process is younger than this, which is when it connects to what it needs.
const YOUNG: Duration = Duration::from_secs(15);

/// What is to be scanned for, as the hook is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Listeners and connections.
    pub listeners: bool,
    /// Segments sent again.
    pub retransmits: bool,
}

impl Wanted {
    pub fn any(&self) -> bool {
        self.listeners || self.retransmits
    }
}

/// The sockets there are.
#[derive(Debug, Default)]
struct Sockets {
    /// The addresses of listeners, by inode number. None if they could not be read whole.
    listeners: Option<HashMap<u64, SocketAddr>>,
    /// Other sockets, as far as they were asked for.
    connections: Vec<sockdiag::Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Listening {
    address: SocketAddr,
    /// The main process of the service that has it open.
    main: Option<ProcessKey>,
    /// The scan before did not find it any more: it may be reopened, or have been missed.
    doubtful: bool,
}

/// The main process that each open socket belongs to, by inode number.
type Owners = HashMap<u64, ProcessKey>;

/// Both ends of a connection, which stay the same when no process has it open any more.
type Ends = (SocketAddr, SocketAddr);

/// A scan of the sockets of services, and what the one before found. It reads through `/proc`, and belongs on a thread
/// of its own.
#[derive(Debug)]
pub struct SocketScan {
    reader: ProcReader,
    scans: u64,
    /// The network namespace of the daemon.
    own: Option<u32>,
    /// The listeners of processes older than this are counted as the daemon starts.
    began: Timestamp,
    wanted: Wanted,
    mains: Vec<ProcessKey>,
    listeners: HashMap<u64, Listening>,
    /// The services' connections: the main process, and how many segments were sent again.
    connections: HashMap<Ends, (ProcessKey, u32)>,
}

impl SocketScan {
    /// `began` is when the daemon began to count what was there before.
    pub fn new(reader: ProcReader, began: Timestamp, wanted: Wanted) -> Self {
        let own = reader.netns(std::process::id());
        let (mains, listeners, connections) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { reader, scans: 0, own, began, wanted, mains, listeners, connections }
    }

    /// Scans the sockets of these main processes and their descendants.
    pub fn scan(&mut self, mains: Vec<ProcessKey>) -> Vec<Record> {
        let now = Timestamp::now();
        let young = mains.iter().any(|main| now.since(main.start) < YOUNG);
        let whole = young || self.scans.is_multiple_of(SELDOM);
        self.scans += 1;
        let sockets = self.read(&mains, whole);
        let is_new = |inode: &u64| !self.listeners.contains_key(inode);
        let news = mains != self.mains || sockets.listeners.iter().flat_map(HashMap::keys).any(is_new);
        // The owners of sockets are only searched for when there is a question to answer.
        let search = whole || news || !sockets.connections.is_empty();
        let owners = if search { self.owners(&mains) } else { Owners::new() };
        let mut found = Vec::new();
        // A list that could not be read whole does not show what is gone.
        if let Some(listeners) = sockets.listeners.as_ref().filter(|_| self.wanted.listeners) {
            let changed = self.compare_listeners(&mains, listeners, &owners, now);
            found.extend(changed.into_iter().map(Record::Listen));
        }
        let again = self.compare_connections(&sockets, &owners, whole, now);
        if self.wanted.retransmits {
            found.extend(again.into_iter().map(Record::Retransmits));
        }
        if self.wanted.listeners && whole {
            found.extend(self.outbound(&sockets, &owners, now).into_iter().map(Record::Connect));
        }
        self.mains = mains;
        found
    }

    fn compare_listeners(
        &mut self,
        mains: &[ProcessKey],
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
            let runs = |main: &ProcessKey| mains.contains(main);
            let known = before.get(inode).and_then(|listening| listening.main.filter(runs));
            let new = owners.get(inode).copied().filter(|_| known.is_none());
            // The listeners that a process older than the daemon had when it was found are counted then.
            let counted = |main: &ProcessKey| main.start < self.began && !self.mains.contains(main);
            let up = new.filter(|main| !counted(main));
            changed.extend(up.map(|main| listen(now, true, *address, main)));
            let listening = Listening { address: *address, main: known.or(new), doubtful: false };
            self.listeners.insert(*inode, listening);
        }
        changed
    }

    fn compare_connections(
        &mut self,
        sockets: &Sockets,
        owners: &Owners,
        whole: bool,
        now: Timestamp,
    ) -> Vec<Retransmits> {
        // A connection that is gone is dropped when all were read.
        let mut before = self.connections.clone();
        if whole {
            self.connections.clear();
        }
        let mut again = Vec::new();
        for socket in &sockets.connections {
            let ends = (socket.local, socket.remote);
            let known = before.remove(&ends);
            // A connection that was closed has no owner any more, but its segments may still be on their way.
            let main = owners.get(&socket.inode).copied().or(known.map(|(main, _)| main));
            let Some(main) = main else { continue };
            let earlier = known.map_or(0, |(_, times)| times);
            if socket.retransmits > earlier {
                again.push(sent_again(now, main, socket.remote, socket.retransmits - earlier));
            }
            self.connections.insert(ends, (main, socket.retransmits));
        }
        again
    }

    /// The addresses that each main process and its descendants are connected to: outbound connections, not accepted
    /// ones.
    fn outbound(&self, sockets: &Sockets, owners: &Owners, now: Timestamp) -> Vec<Connect> {
        let listening: HashSet<u16> =
            sockets.listeners.iter().flat_map(HashMap::values).map(SocketAddr::port).collect();
        let mut remotes: HashMap<ProcessKey, BTreeSet<SocketAddr>> = HashMap::new();
        for socket in sockets.connections.iter().filter(|it| !listening.contains(&it.local.port())) {
            if let Some(main) = owners.get(&socket.inode) {
                remotes.entry(*main).or_default().insert(socket.remote);
            }
        }
        let mut connects = Vec::new();
        for (main, remotes) in remotes {
            let netns = self.reader.netns(main.pid);
            connects.extend(remotes.into_iter().map(|remote| Connect {
                at_ns: now.as_nanos(),
                source: Source::Proc,
                owner: owner(main),
                cgroups: Cgroups::default(),
                remote,
                netns,
            }));
        }
        connects
    }

    /// The sockets of the daemon's own network namespace, and of those that services have of their own.
    fn read(&self, mains: &[ProcessKey], whole: bool) -> Sockets {
        let mut sockets = asked(whole).unwrap_or_else(|_| self.around(std::process::id(), whole));
        let mut seen = HashSet::from([self.own, None]);
        for main in mains {
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

    fn owners(&self, mains: &[ProcessKey]) -> Owners {
        let process_tree = self.reader.process_tree();
        let mut owners = Owners::new();
        for main in mains {
            for pid in process_tree.of(main.pid) {
                for inode in self.reader.socket_inodes(pid) {
                    owners.entry(inode).or_insert(*main);
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

fn owner(main: ProcessKey) -> Owner {
    Owner { pid: main.pid, parent_pid: 0, start_ns: main.start.as_nanos() }
}

fn sent_again(at: Timestamp, main: ProcessKey, remote: SocketAddr, times: u32) -> Retransmits {
    Retransmits {
        at_ns: at.as_nanos(),
        source: Source::Netlink,
        owner: owner(main),
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
