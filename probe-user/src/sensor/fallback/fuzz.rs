//! The way of the fuzzers to the fallback's sources: the process connector and the kernel's log.

use super::{
    connector::{self, Event},
    kernel_report::report,
    kmsg::{Lines, LogLine},
};
use crate::{host::Cgroups, sensor::record::Oom};

/// The event in a message of the process connector, in words.
pub fn connector_event(message: &[u8]) -> Option<String> {
    connector::event(message).map(|event: Event| format!("{event:?}"))
}

/// What a line of the kernel's log says of the host: the check, its target, and the words that are shown.
pub fn host_report(line: &str) -> Option<(String, String, String)> {
    let found = report(line)?;
    Some((format!("{:?}", found.subject.check), found.subject.target, found.words))
}

/// The OOM kills in the records of a log.
pub fn oom_kills<'r>(records: impl Iterator<Item = &'r [u8]>, cgroups: &Cgroups) -> Vec<Oom> {
    let mut lines = Lines::default();
    let found = records.filter_map(|record| match lines.record(record)? {
        LogLine::Oom(line) => Some(line.record(cgroups)),
        LogLine::Host(_) => None,
    });
    found.collect()
}
