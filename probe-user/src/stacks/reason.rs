//! Reasons why a thread does not go on, in words.

use std::net::SocketAddr;

use crate::host::call::Call;

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It runs, or is ready to run.
    Runs,
    /// A signal or a tracer has stopped it.
    Stopped(&'static str),
    /// A lock, and the thread that has it.
    Lock {
        owner: Option<u32>,
    },
    /// Another thread is to wake it: a condition variable, a channel, a queue of work.
    Wakeup,
    /// The end of another thread.
    ThreadEnd(Option<u32>),
    /// A connection is to be made.
    Connect(&'static str, RemoteEnd),
    /// An answer over a connection.
    Answer(&'static str, RemoteEnd),
    /// The other end does not read what it writes.
    Room(&'static str, RemoteEnd),
    /// What a descriptor leads to, such as a pipe or a file.
    Descriptor(&'static str, String),
    /// Work that comes from outside: a new connection, an event, a signal.
    Idle(&'static str),
    Sleep(&'static str),
    Child(&'static str),
    FileLock(&'static str, Option<String>),
    /// It waits in the kernel and cannot be interrupted; for a disk or a file system.
    Disk(String),
    /// It waits in the kernel and cannot be interrupted.
    Kernel(String),
    Call(String),
    /// The kernel hides it from this process.
    Unknown,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEnd {
    pub address: SocketAddr,
    /// The watched service that is there.
    pub service: Option<String>,
}

/// What is known of a thread.
pub struct WaitingThread<'t> {
    pub pid: u32,
    pub tid: u32,
    /// As [`crate::host::thread::Thread::state`].
    pub state: char,
    pub channel: Option<&'t str>,
    pub call: Option<Call>,
    /// All threads of its process.
    pub tids: &'t [u32],
}

impl Reason {
    /// Whether a server waits like this while it has nothing to do.
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Idle(_) | Self::Wakeup | Self::Sleep(_) | Self::ThreadEnd(_) | Self::Unknown)
    }

    /// What one thread does, or several: `waits for a lock (futex)` or `wait for a lock (futex)`.
    pub fn words(&self, many: bool) -> String {
        let waits = if many { "wait" } else { "waits" };
        match self {
            Self::Runs => (if many { "run" } else { "runs" }).to_owned(),
            Self::Stopped(how) if many => how.replacen("is ", "are ", 1).replacen("has ", "have ", 1),
            Self::Stopped(how) => (*how).to_owned(),
            Self::Lock { owner: None } => format!("{waits} for a lock (futex)"),
            Self::Lock { owner: Some(owner) } => format!("{waits} for a lock (futex) of thread {owner}"),
            Self::Wakeup => format!("{waits} to be woken (futex)"),
            Self::ThreadEnd(None) => format!("{waits} for the end of a thread"),
            Self::ThreadEnd(Some(tid)) => format!("{waits} for the end of thread {tid}"),
            Self::Connect("connect", peer) => format!("{waits} in connect() to {}", peer.words()),
            Self::Connect(call, peer) => format!("{waits} in {call}() for a connection to {}", peer.words()),
            Self::Answer(call, peer) => format!("{waits} in {call}() for data from {}", peer.words()),
            Self::Room(call, peer) => format!("{waits} in {call}() for {} to read", peer.words()),
            Self::Descriptor(call, what) => format!("{waits} in {call}() for {what}"),
            Self::Idle(call) => format!("{waits} for work in {call}()"),
            Self::Sleep(call) => format!("{} in {call}()", if many { "sleep" } else { "sleeps" }),
            Self::Child(call) => format!("{waits} for a child process in {call}()"),
            Self::FileLock(call, path) => {
                let path = path.as_ref().map(|path| format!(" of {path}")).unwrap_or_default();
                format!("{waits} for a file lock{path} in {call}()")
            }
            Self::Disk(function) => format!("{waits} for the disk ({function})"),
            Self::Kernel(function) => format!("{waits} in the kernel ({function})"),
            Self::Call(call) => format!("{waits} in {call}"),
            Self::Unknown => format!("{waits} for something unknown"),
        }
    }
}

impl RemoteEnd {
    fn words(&self) -> String {
        match &self.service {
            Some(service) => format!("{} ({service})", self.address),
            None => self.address.to_string(),
        }
    }
}
