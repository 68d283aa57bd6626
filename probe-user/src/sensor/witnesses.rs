//! One fault of the host may have several witnesses: a hook, another hook behind it, and the kernel's log. Each fault is
//! reported once, by the witness that knows most of it.
//!
//! A line of the log is kept for a second. If a hook reports the same by then, or did so a short time ago, the line is
//! dropped. If none does, because the record was lost or no hook sees such a fault, the line is the report.

use std::collections::BTreeMap;

use crate::{
    fact::{HostCheck, HostSubject, Source},
    sensor::{
        ebpf::Hook,
        record::{HostReport, Record},
    },
};

/// A report waits for a better witness for so long. The kernel writes the line and calls the hook one right after the other.
const WAIT_NS: u64 = 1_000_000_000;

/// What a hook has reported is the same trouble for so long. A hook reports repeats every ten seconds.
const SAME_NS: u64 = 30_000_000_000;

/// Most subjects that are remembered, and most reports that wait. More of them are reported without a wait.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub struct Witnesses {
    /// The checks that attached hooks serve.
    hooked: Vec<HostCheck>,
    /// A memory controller's driver may know more of what the processor reports.
    has_memory_hook: bool,
    /// When a hook last reported this, by rank and subject.
    seen: BTreeMap<HostSubject, (Rank, u64)>,
    waiting: Vec<HostReport>,
}

/// How much a witness knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Log,
    /// The processor, of an error of memory.
    Processor,
    Hook,
}

impl Witnesses {
    pub fn new(attached: impl Fn(Hook) -> bool) -> Self {
        let hooked = Hook::ALL.into_iter().filter(|hook| attached(*hook)).filter_map(Hook::host_check);
        Self { hooked: hooked.collect(), has_memory_hook: attached(Hook::MemoryError), ..Self::default() }
    }

    /// Takes those reports out of `out`, from there on, that are to wait or are known already.
    pub fn sift(&mut self, out: &mut Vec<Record>, from: usize) {
        if !out[from..].iter().any(|record| matches!(record, Record::Host(_))) {
            return;
        }
        let mut kept = Vec::new();
        for record in out.drain(from..) {
            if let Record::Host(report) = record {
                kept.extend(self.admit(report).map(Record::Host));
            } else {
                kept.push(record);
            }
        }
        out.extend(kept);
    }

    /// The reports that have waited long enough, and that no better witness has made meanwhile.
    pub fn due(&mut self, now_ns: u64) -> Vec<HostReport> {
        let is_due = |report: &mut HostReport| now_ns.saturating_sub(report.at_ns) >= WAIT_NS;
        let due: Vec<HostReport> = self.waiting.extract_if(.., is_due).collect();
        self.seen.retain(|_, (_, at_ns)| now_ns.saturating_sub(*at_ns) < SAME_NS);
        let mut reported = Vec::new();
        for report in due {
            if !self.is_known(&report) {
                self.remember(&report);
                reported.push(report);
            }
        }
        reported
    }

    fn admit(&mut self, report: HostReport) -> Option<HostReport> {
        if !self.hooked.contains(&report.subject.check) {
            return Some(report);
        }
        if self.is_known(&report) {
            return None;
        }
        if self.waits(&report) && self.waiting.len() < MOST {
            self.waiting.push(report);
            return None;
        }
        self.remember(&report);
        Some(report)
    }

    fn waits(&self, report: &HostReport) -> bool {
        match rank(report) {
            Rank::Log => true,
            Rank::Processor => self.has_memory_hook,
            Rank::Hook => false,
        }
    }

    /// Whether a better witness has reported it.
    fn is_known(&self, report: &HostReport) -> bool {
        let (rank, at_ns) = (rank(report), report.at_ns);
        self.seen.iter().any(|(subject, (by, seen_ns))| {
            *by > rank && at_ns.abs_diff(*seen_ns) < SAME_NS && is_same(subject, &report.subject)
        })
    }

    fn remember(&mut self, report: &HostReport) {
        let rank = rank(report);
        let is_room = self.seen.len() < MOST || self.seen.contains_key(&report.subject);
        if rank > Rank::Log && is_room {
            self.seen.insert(report.subject.clone(), (rank, report.at_ns));
        }
    }
}

fn rank(report: &HostReport) -> Rank {
    let is_of_processor = report.subject.check == HostCheck::MemoryErrors && report.subject.target.is_empty();
    match (report.source == Source::Ebpf, is_of_processor) {
        (true, true) => Rank::Processor,
        (true, false) => Rank::Hook,
        (false, _) => Rank::Log,
    }
}

/// Whether two witnesses speak of the same. An error of memory is one for the processor, for the driver of the memory
/// controller, and for the log. The log names the partition of a disk too, of which hooks name the disk.
fn is_same(hooks: &HostSubject, other: &HostSubject) -> bool {
    if hooks.check != other.check {
        return false;
    }
    let is_name = if hooks.check == HostCheck::BlockErrors {
        is_partition(&hooks.target, &other.target)
    } else {
        hooks.target == other.target
    };
    is_name || hooks.check == HostCheck::MemoryErrors
}

/// Whether a name is a disk's, or that of a partition of it: `sda1`, `nvme0n1p1`.
fn is_partition(disk: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(disk) else { return false };
    // A name that ends with a digit has a `p` before the number.
    let number =
        if disk.ends_with(|it: char| it.is_ascii_digit()) { rest.strip_prefix('p') } else { Some(rest) };
    rest.is_empty() || number.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn report(source: Source, check: HostCheck, target: &str, at_ns: u64) -> HostReport {
        HostReport {
            at_ns,
            source,
            subject: HostSubject { check, target: target.to_owned() },
            exhausted: false,
            count: 1,
            words: format!("{source:?} {target}"),
            device: None,
            fault: None,
            kind: None,
        }
    }

    /// What is reported of these, in this order, and two seconds later.
    fn reported(witnesses: &mut Witnesses, reports: &[HostReport]) -> Vec<String> {
        let mut out: Vec<Record> = reports.iter().cloned().map(Record::Host).collect();
        witnesses.sift(&mut out, 0);
        let last = reports.iter().map(|report| report.at_ns).max().unwrap_or_default();
        out.extend(witnesses.due(last + 2 * SECOND).into_iter().map(Record::Host));
        let words =
            |record: Record| if let Record::Host(report) = record { report.words } else { String::new() };
        out.into_iter().map(words).collect()
    }

    fn all() -> Witnesses {
        Witnesses::new(|_| true)
    }

    #[test]
    fn a_line_of_the_log_is_dropped_whether_it_comes_before_or_after_the_hooks_report() {
        let hook = report(Source::Ebpf, HostCheck::BlockErrors, "sda", 5 * SECOND);
        for target in ["sda", "sda1"] {
            let log = |at| report(Source::Kmsg, HostCheck::BlockErrors, target, at);
            for order in [[hook.clone(), log(5 * SECOND)], [log(5 * SECOND), hook.clone()]] {
                assert_eq!(reported(&mut all(), &order), ["Ebpf sda"]);
            }
        }
    }

    #[test]
    fn a_line_without_a_report_of_a_hook_is_reported_a_second_later() {
        let mut witnesses = all();
        let mut out = vec![Record::Host(report(Source::Kmsg, HostCheck::FsErrors, "sda1", SECOND))];
        witnesses.sift(&mut out, 0);
        assert!(out.is_empty() && witnesses.due(SECOND + SECOND / 2).is_empty());
        assert_eq!(witnesses.due(2 * SECOND).len(), 1);
        assert!(witnesses.due(9 * SECOND).is_empty(), "once");
    }

    #[test]
    fn another_disk_another_check_and_a_later_fault_are_not_the_same() {
        let mut witnesses = all();
        let hook = report(Source::Ebpf, HostCheck::BlockErrors, "nvme0n1", SECOND);
        assert_eq!(reported(&mut witnesses, &[hook]).len(), 1);
        for (check, target, seconds, count) in [
            (HostCheck::BlockErrors, "nvme0n1", 3, 0),
            (HostCheck::BlockErrors, "nvme0n1p2", 3, 0),
            (HostCheck::BlockErrors, "nvme0n12", 3, 1),
            (HostCheck::BlockErrors, "sda", 3, 1),
            (HostCheck::FsErrors, "nvme0n1", 3, 1),
            (HostCheck::BlockErrors, "nvme0n1", 60, 1),
        ] {
            let log = report(Source::Kmsg, check, target, seconds * SECOND);
            assert_eq!(reported(&mut witnesses, &[log]).len(), count, "{check:?} {target} {seconds}");
        }
    }

    #[test]
    fn an_error_of_memory_is_reported_by_the_driver_of_the_controller_alone() {
        let processor = report(Source::Ebpf, HostCheck::MemoryErrors, "", SECOND);
        let driver = report(Source::Ebpf, HostCheck::MemoryErrors, "MC0", SECOND + 1);
        let log = report(Source::Kmsg, HostCheck::MemoryErrors, "", SECOND + 2);
        let all_three = [processor.clone(), driver, log.clone()];
        assert_eq!(reported(&mut all(), &all_three), ["Ebpf MC0"]);
        assert_eq!(reported(&mut all(), &[processor, log.clone()]), ["Ebpf "], "without a driver");
        assert_eq!(reported(&mut all(), &[log]), ["Kmsg "]);
    }

    #[test]
    fn without_a_hook_the_log_is_reported_at_once() {
        let mut witnesses = Witnesses::new(|hook| hook != Hook::HungTask);
        let mut out = vec![Record::Host(report(Source::Kmsg, HostCheck::HungTask, "dd", SECOND))];
        witnesses.sift(&mut out, 0);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn more_reports_than_may_wait_are_not_lost() {
        let many: Vec<_> = (0..MOST as u64 + 50)
            .map(|at| report(Source::Kmsg, HostCheck::HungTask, &format!("task-{at}"), SECOND))
            .collect();
        assert_eq!(reported(&mut all(), &many).len(), many.len());
    }
}
