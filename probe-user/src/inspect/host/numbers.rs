//! The numbers of the host as a whole: memory, CPU time, pressure, and what the kernel has only so many of.

use std::collections::VecDeque;

use super::measure::Measured;
use crate::{
    clock::Timestamp,
    config::HostOptions,
    fact::{HostCheck, Share},
    host::{
        ProcReader,
        hardware::{CpuTimes, MemoryErrors},
        pressure::Stalls,
        sockdiag,
    },
};

/// Corrected memory errors that are no trouble, in a day. Large servers correct some every day.
const CORRECTED_A_DAY: u64 = 100;
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// From this share of all local ports on, it is counted how many connections to one address use.
const PORTS_COUNTED: f64 = 0.5;

/// The counters of the last round.
#[derive(Debug, Default)]
pub struct NumbersPast {
    stalls: Option<Stalls>,
    cpu: Option<CpuTimes>,
    throttled: Option<(Timestamp, std::time::Duration)>,
    errors: Option<MemoryErrors>,
    /// When how many corrected memory errors were counted, for a day.
    corrected: VecDeque<(Timestamp, u64)>,
}

impl NumbersPast {
    pub fn measure(&mut self, reader: &ProcReader, options: &HostOptions) -> Vec<Measured> {
        let mut found = Vec::new();
        found.extend(memory(reader, options));
        found.extend(self.pressure(reader, options));
        found.extend(self.steal(reader, options));
        found.extend(self.heat(reader, options));
        found.extend(self.memory_errors(reader, options));
        let counted = [
            (HostCheck::Pids, options.pids_percent, reader.tasks(), "processes and threads"),
            (HostCheck::Files, options.files_percent, reader.open_files(), "open files"),
            (
                HostCheck::Conntrack,
                options.conntrack_percent,
                reader.tracked_connections(),
                "tracked connections (nf_conntrack_max)",
            ),
        ];
        for (check, limit, share, what) in counted {
            if let (Some(limit), Some(share)) = (limit, share) {
                found.push(of_share(check, "", share, limit, what));
            }
        }
        if let Some(limit) = options.neighbours_percent {
            let tables = reader.neighbours().into_iter();
            let what = "entries of the neighbour table (gc_thresh3)";
            found.extend(
                tables.map(|(name, share)| of_share(HostCheck::Neighbours, name, share, limit, what)),
            );
        }
        found.extend(ports(reader, options));
        found
    }

    fn pressure(&mut self, reader: &ProcReader, options: &HostOptions) -> Vec<Measured> {
        let stalls = reader.stalls();
        let Some(before) = self.stalls.replace(stalls) else { return Vec::new() };
        let shares = stalls.since(&before);
        let checks = [
            (
                HostCheck::MemoryPressure,
                options.memory_pressure_percent,
                shares.memory,
                "all tasks wait for memory",
            ),
            (HostCheck::CpuPressure, options.cpu_pressure_percent, shares.cpu, "tasks wait for a CPU"),
            (HostCheck::IoPressure, options.io_pressure_percent, shares.io, "all tasks wait for a disk"),
        ];
        let measured = checks.into_iter().filter_map(|(check, limit, share, what)| {
            let percent = share? * 100.0;
            Some(Measured::of_host(check, percent, limit?, format!("{what} {percent:.0} % of the time")))
        });
        measured.collect()
    }

    fn steal(&mut self, reader: &ProcReader, options: &HostOptions) -> Option<Measured> {
        let now = reader.cpu_times()?;
        let before = self.cpu.replace(now)?;
        let total = now.total.saturating_sub(before.total).max(1);
        let percent = now.steal.saturating_sub(before.steal) as f64 * 100.0 / total as f64;
        let words = format!("the hypervisor gives {percent:.0} % of the CPU time to others");
        Some(Measured::of_host(HostCheck::CpuSteal, percent, options.cpu_steal_percent?, words))
    }

    fn heat(&mut self, reader: &ProcReader, options: &HostOptions) -> Option<Measured> {
        let (now, total) = (Timestamp::now(), reader.throttled()?);
        let (then, before) = self.throttled.replace((now, total))?;
        let elapsed = now.since(then).as_secs_f64().max(0.001);
        let percent = (total.saturating_sub(before).as_secs_f64() * 100.0 / elapsed).min(100.0);
        let words = format!("a CPU is slowed down by heat {percent:.0} % of the time");
        Some(Measured::of_host(HostCheck::Thermal, percent, options.thermal_percent?, words))
    }

    fn memory_errors(&mut self, reader: &ProcReader, options: &HostOptions) -> Option<Measured> {
        let now = reader.memory_errors()?;
        let before = self.errors.replace(now)?;
        if !options.memory_errors {
            return None;
        }
        let at = Timestamp::now();
        let corrected = now.corrected.saturating_sub(before.corrected);
        if corrected > 0 {
            self.corrected.push_back((at, corrected));
        }
        while self.corrected.front().is_some_and(|(then, _)| at.since(*then) >= DAY)
            || self.corrected.len() > 1024
        {
            self.corrected.pop_front();
        }
        let of_day: u64 = self.corrected.iter().map(|(_, count)| count).sum();
        let uncorrected = now.uncorrected.saturating_sub(before.uncorrected);
        let (value, words) = if uncorrected > 0 {
            (
                uncorrected,
                "the memory has an error that could not be corrected: replace the module".to_owned(),
            )
        } else if corrected > 0 && of_day > CORRECTED_A_DAY {
            (
                corrected,
                format!("{of_day} memory errors were corrected within a day: a module begins to fail"),
            )
        } else {
            (0, "no memory error is new".to_owned())
        };
        Some(Measured::of_host(HostCheck::MemoryErrors, value as f64, 1.0, words))
    }
}

fn memory(reader: &ProcReader, options: &HostOptions) -> Option<Measured> {
    let (memory, limit) = (reader.memory()?, options.memory_percent?);
    let used = memory.total.saturating_sub(memory.available);
    let percent = Share { used, most: memory.total }.percent();
    let words = format!(
        "{percent:.0} % of the memory is in use: {} MiB of {} MiB are available",
        memory.available >> 20,
        memory.total >> 20
    );
    Some(Measured::of_host(HostCheck::Memory, percent, limit, words))
}

fn ports(reader: &ProcReader, options: &HostOptions) -> Option<Measured> {
    let (limit, range) = (options.ports_percent?, reader.local_ports()?);
    let most = u64::from(range.end().saturating_sub(*range.start())) + 1;
    let all = reader.tcp_sockets();
    let (remote, used) = if (all as f64) < most as f64 * PORTS_COUNTED {
        (None, 0)
    } else {
        let (remote, used) = sockdiag::busiest_remote(&range).ok()??;
        (Some(remote), used)
    };
    let what = remote.map_or_else(
        || "local ports to one address".to_owned(),
        |remote| format!("local ports for connections to {remote} (ip_local_port_range)"),
    );
    Some(of_share(HostCheck::Ports, "", Share { used, most }, limit, &what))
}

fn of_share(check: HostCheck, target: &str, share: Share, limit: f64, what: &str) -> Measured {
    let percent = share.percent();
    let words = format!("{} of {} {what} are in use ({percent:.0} %)", share.used, share.most);
    Measured {
        target: target.to_owned(),
        // A few are always in flight.
        exhausted: percent >= 99.5,
        ..Measured::of_host(check, percent, limit, words)
    }
}
