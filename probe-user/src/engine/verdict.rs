//! From evidence to a verdict, with its confidence and a sentence for people.

mod alive;
mod memory_killer;
mod sender;
mod standstill;

pub use alive::{Circumstances, early_sample, failures_needed, of_failures};
pub use memory_killer::memory_killer;
use sender::sender_words;
pub use standstill::{is_hung_before_timeout, of_core_dump, of_suspension};

use super::unit::meaning::{self, Known, Meaning};
use crate::fact::{
    ExitStatus, Holder, NamespaceEnd, OomKill, PortHolder, ProcessExit, Sender, ServiceId, Source, Summary,
    UnitState, Verdict,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub verdict: Verdict,
    /// From 0 to 1.
    pub confidence: f32,
    /// One sentence, without the service's name.
    pub summary: Summary,
}

/// What could mend a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    Restart,
    /// No restart, and why.
    Hold(String),
    /// No restart before something that ends by itself, and what.
    Await(String),
    /// No action by hostprobe is possible or expected.
    Nothing,
}

impl Finding {
    pub fn new(verdict: Verdict, confidence: f32, summary: impl Into<Summary>) -> Self {
        Self { verdict, confidence, summary: summary.into() }
    }
}

const SIGKILL: u8 = 9;

/// The verdict on the death of a main process alone.
///
/// The sender of the signal decides between [`Verdict::Crashed`] and [`Verdict::Killed`], not its number: another
/// process can send SIGSEGV, and a process can end itself by any signal.
pub fn of_exit(exit: &ProcessExit, oom: Option<&OomKill>) -> Finding {
    let pid = exit.process.key.pid;
    let sure = sure(exit.source);
    if exit.oom || oom.is_some() {
        return Finding::new(Verdict::OomKilled, sure, oom_sentence(&format!("main process {pid}"), oom));
    }
    if let Some(killer) = memory_killer(exit) {
        return Finding::new(Verdict::OomKilled, sure, format!("main process {pid} {}", killer.words(exit)));
    }
    if let Some(end) = &exit.namespace_end {
        let summary =
            format!("main process {pid} was killed with its pid namespace, {}", namespace_words(end));
        return Finding::new(Verdict::Killed, sure, summary);
    }
    match (exit.status, exit.killer()) {
        (ExitStatus::Code(code), _) => {
            let after = match (&exit.sender, exit.sent_signal) {
                (Some(sender @ Sender::Process { .. }), Some(signal)) => {
                    let name = crate::fact::process::signal_name(signal);
                    format!(" after {name} from {}", sender_words(sender))
                }
                _ => String::new(),
            };
            Finding::new(Verdict::Exited, sure, format!("main process {pid} exited with code {code}{after}"))
        }
        (ExitStatus::Unknown, _) => {
            let summary = format!("main process {pid} has ended; its exit status is unknown");
            Finding::new(Verdict::Exited, 0.5, summary)
        }
        (status @ ExitStatus::Signal { .. }, Some(sender @ Sender::Process { .. })) => Finding::new(
            Verdict::Killed,
            sure,
            format!(
                "main process {pid} was killed by {status} from {}{}",
                sender_words(sender),
                memory_killer::of_kubernetes(exit).unwrap_or_default()
            ),
        ),
        // The kernel sends SIGKILL for a limit, not for a fault.
        (ExitStatus::Signal { number: SIGKILL, .. }, Some(Sender::Kernel)) => Finding::new(
            Verdict::Killed,
            sure,
            format!("main process {pid} was killed by SIGKILL from the kernel"),
        ),
        // It gave up, or ended as a child of its own did.
        (status @ ExitStatus::Signal { number, .. }, Some(Sender::Itself)) if !raised_by_fault(number) => {
            Finding::new(Verdict::Exited, sure, format!("main process {pid} ended itself by {status}"))
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Itself | Sender::Kernel)) => {
            Finding::new(Verdict::Crashed, sure, format!("main process {pid} crashed with {status}"))
        }
        (status @ ExitStatus::Signal { number, core_dumped }, None) => {
            if core_dumped || raised_by_fault(number) {
                Finding::new(
                    Verdict::Crashed,
                    sure.min(0.8),
                    format!("main process {pid} crashed with {status}"),
                )
            } else {
                Finding::new(
                    Verdict::Killed,
                    sure.min(0.8),
                    format!("main process {pid} was killed by {status}; its sender is not known"),
                )
            }
        }
    }
}

/// The confidence in a source.
pub const fn sure(source: Source) -> f32 {
    match source {
        Source::Ebpf => 1.0,
        Source::Netlink => 0.9,
        Source::Proc
        | Source::Kmsg
        | Source::Dbus
        | Source::Probe
        | Source::Supervisor
        | Source::Container
        | Source::Engine => 0.8,
    }
}

/// The verdict on a unit without a main process, from systemd's state alone.
pub fn of_unit(state: &UnitState) -> Finding {
    let row = meaning::of_end(state, Known::default());
    let (verdict, what) = match (row.meaning, state.result.as_str()) {
        (Meaning::Fault(Some(verdict), _), _) => (verdict, meaning::words(row, state)),
        (_, "signal") => (Verdict::Killed, "a signal ended it".to_owned()),
        (_, "core-dump") => (Verdict::Crashed, "it dumped core".to_owned()),
        (_, "oom-kill") => (Verdict::OomKilled, "the OOM killer killed one of its processes".to_owned()),
        (_, "start-limit-hit") => (Verdict::CrashLoop, meaning::words(row, state)),
        (_, "exit-code") => (Verdict::Exited, "it exited with an error".to_owned()),
        (_, _) => (Verdict::Exited, "it is not running".to_owned()),
    };
    Finding::new(
        verdict,
        0.7,
        format!("{what}: {} says {} ({}), result {}", state.manager(), state.active, state.sub, state.result),
    )
}

/// The verdict on the death of a worker. None if the worker ended as it should.
///
/// A worker that was asked to end, or whose pipe has no reader, ends as it should.
pub fn of_worker(exit: &ProcessExit, oom: Option<&OomKill>) -> Option<Finding> {
    let is_end = matches!(exit.status, ExitStatus::Code(_)) && !exit.oom && oom.is_none() || is_orderly(exit);
    if is_end && memory_killer(exit).is_none() {
        return None;
    }
    let summary = format!("{}; its main process lives", child_words(exit, oom)?);
    Some(Finding::new(Verdict::WorkerDied, sure(exit.source), summary))
}

/// Whether a process was asked to end, or its pipe has no reader: SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM.
pub fn is_orderly(exit: &ProcessExit) -> bool {
    let by_signal = matches!(exit.status, ExitStatus::Signal { number: 1 | 2 | 3 | 13 | 14 | 15, .. });
    by_signal && !exit.oom && exit.namespace_end.is_none()
}

/// How a process of a service ended, besides its main process. None for a success.
pub fn child_words(exit: &ProcessExit, oom: Option<&OomKill>) -> Option<String> {
    let (pid, name) = (exit.process.key.pid, &exit.process.name);
    if let Some(end) = &exit.namespace_end {
        return Some(format!(
            "its process {name} (pid {pid}) was killed with its pid namespace, {}",
            namespace_words(end)
        ));
    }
    Some(match (exit.status, exit.killer()) {
        _ if exit.oom || oom.is_some() => oom_sentence(&format!("its process {name} (pid {pid})"), oom),
        _ if let Some(killer) = memory_killer(exit) => {
            format!("its process {name} (pid {pid}) {}", killer.words(exit))
        }
        (ExitStatus::Code(0) | ExitStatus::Unknown, _) => return None,
        (ExitStatus::Code(code), _) => format!("its process {name} (pid {pid}) exited with code {code}"),
        (status @ ExitStatus::Signal { .. }, Some(sender @ Sender::Process { .. })) => {
            format!("its process {name} (pid {pid}) was killed by {status} from {}", sender_words(sender))
        }
        (status @ ExitStatus::Signal { number, core_dumped }, None)
            if !core_dumped && !raised_by_fault(number) =>
        {
            format!("its process {name} (pid {pid}) was killed by {status}; its sender is not known")
        }
        (status @ ExitStatus::Signal { number, .. }, Some(Sender::Itself)) if !raised_by_fault(number) => {
            format!("its process {name} (pid {pid}) ended itself by {status}")
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Itself | Sender::Kernel) | None) => {
            format!("its process {name} (pid {pid}) crashed with {status}")
        }
    })
}

/// Whether a signal asks a process to end: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
pub fn asks_to_end(signal: u8) -> bool {
    matches!(signal, 1 | 2 | 3 | 15)
}

/// Whether a main process ended with success, or as another process asked it to.
pub fn is_clean(exit: &ProcessExit, service: ServiceId) -> bool {
    let request = exit.sent_signal.filter(|signal| asks_to_end(*signal));
    let by_other =
        matches!(exit.sender, Some(Sender::Process { .. })) && exit.sender_service != Some(service);
    let request = request.filter(|_| by_other);
    if memory_killer(exit).is_some() {
        return false;
    }
    match exit.status {
        ExitStatus::Code(0) => true,
        // As shells and Java say that a signal ended them.
        ExitStatus::Code(code) => request.is_some_and(|signal| code == 128 + signal),
        // Where senders are not known.
        ExitStatus::Signal { number: 1 | 2 | 15, core_dumped: false } if exit.sender.is_none() => true,
        ExitStatus::Signal { number, .. } => request == Some(number),
        ExitStatus::Unknown => false,
    }
}

/// The init of a pid namespace and its end, as a part of a sentence.
fn namespace_words(end: &NamespaceEnd) -> String {
    let NamespaceEnd { init_pid, init_name, status, sender } = end;
    let how = match (status, sender) {
        (ExitStatus::Code(code), _) => format!("exited with code {code}"),
        (ExitStatus::Signal { .. }, Some(sender @ Sender::Process { .. })) => {
            format!("was killed by {status} from {}", sender_words(sender))
        }
        (ExitStatus::Signal { .. }, _) => format!("was ended by {status}"),
        (ExitStatus::Unknown, _) => "has ended".to_owned(),
    };
    format!("whose init {init_name} (pid {init_pid}) {how}")
}

fn oom_sentence(who: &str, oom: Option<&OomKill>) -> String {
    let Some(oom) = oom else { return format!("{who} was killed by the OOM killer") };
    let used = mib(oom.anon_bytes + oom.file_bytes + oom.shmem_bytes);
    let limit = oom.limit_bytes.map_or_else(String::new, |limit| format!(", limit {}", mib(limit)));
    let trigger = match oom.trigger_pid {
        0 => String::new(),
        pid => format!(", set off by {} (pid {pid})", oom.trigger_name),
    };
    format!("{who} was killed by the OOM killer ({}): {used} resident{limit}{trigger}", oom.scope.as_str())
}

/// The holder of a port, as a part of a sentence.
pub fn port_words(holder: &PortHolder) -> String {
    let PortHolder { port, pid, name, unit, .. } = holder;
    let unit = unit.as_ref().map_or_else(String::new, |unit| format!(", unit {unit}"));
    format!("port {port} is held by {name} (pid {pid}{unit})")
}

/// A holder of connections, as a part of a sentence. `service` is the name of its service.
pub fn holder_words(holder: &Holder, service: Option<&str>) -> String {
    let mut who = Vec::new();
    who.extend(service.map(|name| format!("service {name}")));
    who.extend(holder.process.as_ref().map(|(pid, name)| format!("{name} (pid {pid})")));
    who.extend(holder.user.as_ref().map(|user| format!("user {user}")));
    who.extend(
        holder.application.as_ref().filter(|name| !name.is_empty()).map(|name| format!("application {name}")),
    );
    who.extend(holder.client.map(|client| format!("from {client}")));
    let who = if who.is_empty() { "a client that is not known".to_owned() } else { who.join(", ") };
    format!("{} by {who}", holder.connections)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// Whether a fault or an abort raises it: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS (`signal(7)`).
pub const fn raised_by_fault(number: u8) -> bool {
    matches!(number, 4 | 5 | 6 | 7 | 8 | 11 | 31)
}
