//! From evidence to a verdict, with its confidence and a sentence for people.

mod alive;

pub use alive::{Circumstances, Remedy, early_sample, failures_needed, of_failures, of_suspension};

use super::{
    summary::Summary,
    unit::meaning::{self, Known, Meaning},
};
use crate::fact::{
    ExitStatus, Holder, OomKill, PortHolder, ProcessExit, Sender, Source, UnitState, Verdict,
    process::whereabouts,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub verdict: Verdict,
    /// From 0 to 1.
    pub confidence: f32,
    /// One sentence, without the service's name.
    pub summary: Summary,
}

impl Finding {
    pub fn new(verdict: Verdict, confidence: f32, summary: impl Into<Summary>) -> Self {
        Self { verdict, confidence, summary: summary.into() }
    }
}

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
            format!("main process {pid} was killed by {status} from {}", sender_words(sender)),
        ),
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
        Source::Proc | Source::Kmsg | Source::Dbus | Source::Probe | Source::Supervisor | Source::Engine => {
            0.8
        }
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
        format!("{what}: systemd says {} ({}), result {}", state.active, state.sub, state.result),
    )
}

/// The verdict on the death of a worker. None if the worker ended as it should.
///
/// A worker that was asked to end, or whose pipe has no reader, ends as it should.
pub fn of_worker(exit: &ProcessExit, oom: Option<&OomKill>) -> Option<Finding> {
    const ORDERLY: [u8; 6] = [1, 2, 13, 14, 15, 3];
    let (pid, name) = (exit.process.key.pid, &exit.process.name);
    let how = match (exit.status, exit.killer()) {
        _ if exit.oom || oom.is_some() => oom_sentence(&format!("its process {name} (pid {pid})"), oom),
        (ExitStatus::Code(_) | ExitStatus::Unknown, _) => return None,
        (ExitStatus::Signal { number, .. }, _) if ORDERLY.contains(&number) => return None,
        (status @ ExitStatus::Signal { .. }, Some(sender @ Sender::Process { .. })) => {
            format!("its process {name} (pid {pid}) was killed by {status} from {}", sender_words(sender))
        }
        (status @ ExitStatus::Signal { number, core_dumped }, None)
            if !core_dumped && !raised_by_fault(number) =>
        {
            format!("its process {name} (pid {pid}) was killed by {status}; its sender is not known")
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Itself | Sender::Kernel) | None) => {
            format!("its process {name} (pid {pid}) crashed with {status}")
        }
    };
    let summary = format!("{how}; its main process lives");
    Some(Finding::new(Verdict::WorkerDied, sure(exit.source), summary))
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

fn sender_words(sender: &Sender) -> String {
    match sender {
        Sender::Process { pid, name, user_id, unit } => {
            let unit = unit.as_ref().map_or_else(String::new, |unit| format!(", unit {unit}"));
            format!("{name} ({}, uid {user_id}{unit})", whereabouts(*pid))
        }
        Sender::Itself => "itself".to_owned(),
        Sender::Kernel => "the kernel".to_owned(),
    }
}

/// Whether a fault or an abort raises it: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS (`signal(7)`).
pub const fn raised_by_fault(number: u8) -> bool {
    matches!(number, 4 | 5 | 6 | 7 | 8 | 11 | 31)
}
