//! The verdict on processes that are kept from running on purpose.
//!
//! A restart would undo what a person or another program does with them: it thaws a paused container, ends a debugger's
//! session, or cuts off a core dump.

use super::{Finding, Remedy, sender_words};
use crate::{
    engine::rules::{self, Obstacle},
    fact::{Examination, FrozenCgroup, Sender, Suspension, Verdict, process::signal_name},
};

const SIGSTOP: u8 = 19;

/// What keeps processes from running on purpose, and the evidence for people; None if they may run.
pub(super) fn of_standstill(examination: &Examination) -> Option<(Obstacle, String)> {
    let Examination { dumping_core, frozen, tracer, .. } = examination;
    if let Some(pid) = dumping_core {
        let words = format!("a fatal signal ended its process {pid}, which writes its core dump");
        return Some((Obstacle::CoreDump, words));
    }
    if let Some(frozen) = frozen {
        let words = format!("{} is frozen, so its processes do not run", frozen_words(frozen));
        return Some((Obstacle::Frozen, words));
    }
    if let Some(tracer) = tracer {
        return Some((Obstacle::Tracer, format!("{} (pid {}) traces it", tracer.name, tracer.pid)));
    }
    let held = "a debugger or another tracer keeps it stopped (state t)";
    is_held_by_tracer(examination).then(|| (Obstacle::Tracer, held.to_owned()))
}

fn frozen_words(frozen: &FrozenCgroup) -> String {
    let FrozenCgroup { path, container, unit } = frozen;
    match (container, unit) {
        (Some(container), _) => format!("container {container} is paused: its cgroup {path}"),
        (None, Some(unit)) => format!("the cgroup {path} of {unit}"),
        (None, None) => format!("its cgroup {path}"),
    }
}

/// Whether a tracer, such as a debugger, keeps all of it stopped.
fn is_held_by_tracer(examination: &Examination) -> bool {
    examination.traced && !examination.progressed()
}

/// The verdict on a main process that writes its core dump, after this signal if it is known.
pub fn of_core_dump(pid: u32, signal: Option<u8>) -> (Finding, Remedy) {
    let by = signal.map_or_else(String::new, |signal| format!(" with {}", signal_name(signal)));
    let rule = rules::of_obstacle(Obstacle::CoreDump);
    let summary = format!("main process {pid} has crashed{by} and writes its core dump");
    (Finding::new(rule.verdict, rule.confidence, summary), Remedy::Await(rule.reason.to_owned()))
}

/// Whether something keeps the processes from running on purpose.
pub(super) fn is_kept(examination: &Examination) -> bool {
    of_standstill(examination).is_some()
}

/// Whether a service is hung though no attempt of its probe has timed out yet.
pub fn is_hung_before_timeout(examination: &Examination) -> bool {
    examination.is_stuck_before_timeout() && !is_kept(examination)
}

/// The verdict on a main process that a signal has stopped.
///
/// A person at a terminal stops a process on purpose. SIGSTOP from a program is how a hang is caused as well, so there
/// the process counts as hung.
pub fn of_suspension(pid: u32, suspension: Option<&Suspension>) -> (Finding, Remedy) {
    let by = suspension.map_or_else(String::new, |stop| {
        let sender =
            stop.sender.as_ref().map_or_else(String::new, |sender| format!(" from {}", sender_words(sender)));
        format!(" by {}{sender}", signal_name(stop.signal))
    });
    let summary = format!("its main process {pid} is stopped (state T){by}, and does nothing");
    let on_purpose = suspension.is_some_and(|stop| {
        // The other stop signals are those of a terminal's job control (`termios(3)`).
        stop.signal != SIGSTOP || stop.sender.as_ref().is_some_and(Sender::is_operator)
    });
    if on_purpose {
        let remedy = Remedy::Hold("a restart would undo the stop".to_owned());
        (Finding::new(Verdict::Paused, 1.0, summary), remedy)
    } else {
        (Finding::new(Verdict::Hung, 1.0, summary), Remedy::Restart)
    }
}
