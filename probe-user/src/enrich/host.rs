//! What the kernel reports about the host.

use crate::{clock::Timestamp, fact::HostReading, sensor::record::HostReport};

/// The report as a reading. Its limit is one, so that each counts.
pub fn host_reading(report: HostReport) -> HostReading {
    let HostReport { at_ns, source, subject, exhausted, count, words, device, fault, .. } = report;
    // Of what is measured too, the kernel says that nothing is left.
    let value = if exhausted { 100.0 } else { count as f64 };
    let limit = if exhausted { 100.0 } else { 1.0 };
    HostReading {
        at: Timestamp::from_nanos(at_ns),
        subject,
        source,
        value,
        limit,
        time_left: None,
        exhausted,
        root_has_room: false,
        device,
        words,
        fault: fault.map(Box::new),
    }
}
