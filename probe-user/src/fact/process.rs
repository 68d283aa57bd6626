//! Processes, their exits, and the senders of signals.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use super::signal::signal_name;
use super::{Actor, CrashSite, ServiceId, Source};
use crate::clock::Timestamp;

/// A process without the ambiguity of a reused pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the daemon's pid namespace, which is the initial one on a host.
    pub pid: u32,
    /// When it was started (`task_struct.start_boottime`), in whole clock ticks as `/proc` gives it.
    pub start: Timestamp,
}

/// The length of a clock tick in `/proc`, in nanoseconds: `USER_HZ` is 100 on every architecture there is a
/// hostprobe for.
const TICK_NANOS: u64 = 10_000_000;

impl ProcessKey {
    /// The process `pid` that was started at `start`; the kernel's nanoseconds and `/proc`'s ticks for the
    /// same start make the same key.
    pub const fn new(pid: u32, start: Timestamp) -> Self {
        let nanos = start.as_nanos();
        Self { pid, start: Timestamp::from_nanos(nanos - nanos % TICK_NANOS) }
    }
}

/// A control group: its id and its path in the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Inode number of its directory.
    pub id: u64,
    /// Path from the hierarchy's root, as `/proc/PID/cgroup` gives it; empty if not known.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its identity.
    pub key: ProcessKey,
    /// Thread group id of its parent; 0 if not known.
    pub parent_pid: u32,
    /// Its name (`comm`), which it can set itself: for people, never for identity.
    pub name: String,
    /// Its executable, as the kernel reports it.
    pub executable: Option<String>,
    /// Its arguments, joined with spaces, as it was started.
    pub command_line: Option<String>,
    /// Its real user id.
    pub user_id: u32,
    /// Its cgroup: of the v2 hierarchy, or of the v1 memory hierarchy where v2 has none.
    pub cgroup: Option<Cgroup>,
    /// Its container, if it runs in one: 64 hexadecimal digits, or the name of an LXC or systemd-nspawn container.
    pub container_id: Option<String>,
    /// Its pid in its own pid namespace, if that is not the daemon's.
    pub namespace_pid: Option<u32>,
}

impl Process {
    /// A process of which only its identity and its parent are known.
    pub fn unknown(key: ProcessKey, parent_pid: u32) -> Self {
        Self {
            key,
            parent_pid,
            name: String::new(),
            executable: None,
            command_line: None,
            user_id: 0,
            cgroup: None,
            container_id: None,
            namespace_pid: None,
        }
    }
}

/// A process's place for people: its pid, or, for pid 0, that the daemon's pid namespace has none for it.
pub fn whereabouts(pid: u32) -> impl fmt::Display {
    fmt::from_fn(move |f| match pid {
        0 => f.write_str("outside of this pid namespace"),
        pid => write!(f, "pid {pid}"),
    })
}

/// A signal that ends a process with a core dump, unless its kernel writes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreSignal {
    /// When the signal was sent.
    pub at: Timestamp,
    pub process: ProcessKey,
    /// The signal: SIGSEGV, SIGABRT or another that dumps core by default.
    pub signal: u8,
}

/// A process's exit status, as `wait` reports it to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited by itself with this code.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: u8,
        /// The kernel wrote, or tried to write, a core dump.
        core_dumped: bool,
    },
    /// It has ended, and no source knows its status.
    Unknown,
}

impl ExitStatus {
    /// Decodes a wait status (`wait(2)`).
    pub const fn from_wait_status(status: u32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) as u8),
            signal => Self::Signal { number: signal as u8, core_dumped: status & 0x80 != 0 },
        }
    }
}

impl ExitStatus {
    /// The number of the signal that ended it.
    pub const fn signal(self) -> Option<u8> {
        match self {
            Self::Signal { number, .. } => Some(number),
            Self::Code(_) | Self::Unknown => None,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Unknown => f.write_str("a status that is not known"),
            Self::Signal { number, core_dumped } => {
                f.write_str(&signal_name(number))?;
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// The sender of the signal that ended a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sender {
    /// Another process.
    Process {
        /// Its pid in the initial namespace.
        pid: u32,
        /// Its name (`comm`).
        name: String,
        user_id: u32,
        /// The systemd unit it runs in, where that could be read.
        unit: Option<String>,
        /// It, or the process that started it, has a controlling terminal.
        #[serde(default)]
        terminal: bool,
    },
    /// The process itself, as by `abort` or `raise`.
    Itself,
    /// The kernel: a fault, an expired limit, or the OOM killer.
    Kernel,
}

impl Sender {
    /// Whether a person sent it: at a terminal, or in a login session of systemd's (`session-3.scope`).
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Process { unit, terminal, .. } => {
                let is_session = |unit: &String| unit.starts_with("session-") && unit.ends_with(".scope");
                *terminal || unit.as_ref().is_some_and(is_session)
            }
            Self::Itself | Self::Kernel => false,
        }
    }
}

/// A process that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// When its last thread exited.
    pub at: Timestamp,
    /// The source of the record.
    pub source: Source,
    /// The process as it was known.
    pub process: Process,
    /// How it ended.
    pub status: ExitStatus,
    /// The sender of the last fatal signal sent to it, whether or not it died of that signal.
    pub sender: Option<Sender>,
    /// The number of that signal.
    pub sent_signal: Option<u8>,
    /// The sender's service, if the daemon watches it.
    pub sender_service: Option<ServiceId>,
    /// The OOM killer chose it.
    pub oom: bool,
    /// Largest resident set it had, in bytes; 0 if not known.
    pub max_rss_bytes: u64,
    /// The kernel killed it because the init of its pid namespace ended.
    #[serde(default)]
    pub namespace_end: Option<NamespaceEnd>,
    /// It was a main process, and other processes of its service may live on.
    #[serde(default)]
    pub left_processes: bool,
    /// Where it crashed, as far as it was known by then.
    #[serde(default)]
    pub crash: Option<Box<CrashSite>>,
    /// The sender of the signal with what is behind it, if the process belonged to a service.
    #[serde(default)]
    pub actor: Option<Box<Actor>>,
}

/// The end of a pid namespace's init, which ends all processes of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceEnd {
    pub init_pid: u32,
    pub init_name: String,
    pub status: ExitStatus,
    /// The sender of the signal that the init died of.
    pub sender: Option<Sender>,
}

/// A process that takes the place of a main process that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub process: ProcessKey,
    pub name: String,
    /// It executes a program of its own. A worker shares the program that its parent executed.
    pub executed: bool,
    /// It listens on a port that the service is expected to listen on.
    pub listens: bool,
    /// It listens on another port or on a Unix socket.
    #[serde(default)]
    pub listens_elsewhere: bool,
    /// A process that it started listens there as well.
    #[serde(default)]
    pub leads: bool,
    /// No other process that the main process left behind has executed a program, or only forked, as this one has. A
    /// process that one of these started does not count.
    #[serde(default)]
    pub sole: bool,
    /// The paths of what it executes: its executable, and for a script its interpreter and the script itself.
    #[serde(default)]
    pub programs: Vec<String>,
}

impl ProcessExit {
    /// Its run time.
    pub fn uptime(&self) -> Duration {
        self.at.since(self.process.key.start)
    }

    /// The sender, if the process died of that very signal.
    pub fn killer(&self) -> Option<&Sender> {
        match self.status {
            ExitStatus::Signal { number, .. } if self.sent_signal == Some(number) => self.sender.as_ref(),
            ExitStatus::Signal { .. } | ExitStatus::Code(_) | ExitStatus::Unknown => None,
        }
    }
}

/// The scope of the memory that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OomScope {
    /// A memory cgroup reached its limit.
    Memcg,
    /// The host itself ran out.
    Global,
    /// A person requested it with the SysRq key.
    Sysrq,
    /// The kernel's stack did not show it.
    Unknown,
}

impl OomScope {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memcg => "memcg",
            Self::Global => "global",
            Self::Sysrq => "sysrq",
            Self::Unknown => "unknown",
        }
    }
}

/// A process that the OOM killer chose; its exit follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKill {
    /// When it was chosen.
    pub at: Timestamp,
    /// The source of the record.
    pub source: Source,
    pub victim: Process,
    /// The scope of the memory that ran out.
    pub scope: OomScope,
    /// Resident anonymous memory of the victim, in bytes.
    pub anon_bytes: u64,
    /// Resident file-backed memory, in bytes.
    pub file_bytes: u64,
    /// Resident shared memory, in bytes.
    pub shmem_bytes: u64,
    /// The limit of the memory cgroup that was reached, in bytes, where it could be read.
    pub limit_bytes: Option<u64>,
    /// The victim's `oom_score_adj`, −1000 to 1000.
    pub score_adj: i16,
    /// The pid of the process whose allocation triggered it; 0 if unknown.
    pub trigger_pid: u32,
    pub trigger_name: String,
}

/// That a process belongs to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub service: ServiceId,
    /// True for the service's main process.
    pub main: bool,
}

/// Whether a socket that is bound to one address accepts connections to another.
pub fn accepts(bound: IpAddr, wanted: IpAddr) -> bool {
    let (bound, wanted) = (bound.to_canonical(), wanted.to_canonical());
    // A socket of `::` accepts IPv4 as well, unless it asked not to, which is rare.
    bound == wanted || bound.is_unspecified() && (bound.is_ipv6() || wanted.is_ipv4())
}

/// A TCP socket that began or ceased to listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// When it changed.
    pub at: Timestamp,
    /// True if it now listens, false if it has closed.
    pub up: bool,
    /// Its local address.
    pub address: IpAddr,
    /// Its local port.
    pub port: u16,
    /// The source of the record.
    pub source: Source,
    /// The process that made the change.
    pub process: ProcessKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_decode_as_wait_does() {
        assert_eq!(ExitStatus::from_wait_status(0x0900), ExitStatus::Code(9));
        assert_eq!(ExitStatus::from_wait_status(0x8b), ExitStatus::Signal { number: 11, core_dumped: true });
        assert_eq!(ExitStatus::from_wait_status(9).to_string(), "SIGKILL");
        assert_eq!(ExitStatus::from_wait_status(0x8b).to_string(), "SIGSEGV (core dumped)");
    }

    #[test]
    fn a_socket_accepts_connections_to_its_own_address_or_to_any() {
        let accepts = |bound: &str, wanted: &str| accepts(bound.parse().unwrap(), wanted.parse().unwrap());
        assert!(accepts("127.0.0.1", "127.0.0.1") && accepts("0.0.0.0", "127.0.0.2"));
        assert!(
            accepts("::", "127.0.0.1") && accepts("::", "::1") && accepts("::ffff:127.0.0.1", "127.0.0.1")
        );
        assert!(!accepts("127.0.0.2", "127.0.0.1") && !accepts("::1", "127.0.0.1"));
        assert!(!accepts("0.0.0.0", "::1"));
    }

    #[test]
    fn signals_have_their_usual_names() {
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(34), "SIGRTMIN+2");
        assert_eq!(signal_name(200), "signal 200");
    }
}
