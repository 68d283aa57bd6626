//! The way of the fuzzers to the fallback's sources: the process connector and the kernel's log.

use super::{
    connector::{self, Event},
    kmsg::{Lines, LogLine},
};
use crate::{host::Cgroups, sensor::record::Oom};

/// The event in a message of the process connector, in words.
pub fn connector_event(message: &[u8]) -> Option<String> {
    connector::event(message).map(|event: Event| format!("{event:?}"))
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
