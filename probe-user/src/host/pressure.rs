//! The host's pressure, by the kernel's pressure stall information (PSI).

use std::path::PathBuf;

use super::{ProcReader, read_text};
use crate::clock::Timestamp;

/// The totals of `/proc/pressure` at one moment, in microseconds; None without PSI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    pub at: Timestamp,
    /// Time that some task waited for a CPU.
    pub cpu: Option<u64>,
    /// Time that all tasks waited for memory.
    pub memory: Option<u64>,
    /// Time that all tasks waited for a disk.
    pub io: Option<u64>,
}

/// Shares of the time between two readings, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// In which some task waited for a CPU.
    pub cpu: Option<f64>,
    /// In which all tasks waited for memory.
    pub memory: Option<f64>,
    /// In which all tasks waited for a disk.
    pub io: Option<f64>,
}

impl ProcReader {
    /// Reads `/proc/pressure`. A kernel without PSI, or one booted with `psi=0`, shows none.
    pub fn stalls(&self) -> Stalls {
        let folder = self.pressure_folder();
        let total = |file: &str, line: &str| total_micros(&read_text(&folder.join(file), 4096).ok()?, line);
        Stalls {
            at: Timestamp::now(),
            cpu: total("cpu", "some"),
            memory: total("memory", "full"),
            io: total("io", "full"),
        }
    }

    pub(crate) fn pressure_folder(&self) -> PathBuf {
        self.proc().join("pressure")
    }
}

impl Stalls {
    /// The shares of the time since an earlier reading; none if no time has passed.
    pub fn since(&self, earlier: &Self) -> Shares {
        let elapsed = self.at.since(earlier.at).as_micros();
        let share = |then: Option<u64>, now: Option<u64>| {
            let lost = now?.saturating_sub(then?);
            (elapsed > 0).then(|| (lost as f64 / elapsed as f64).min(1.0))
        };
        Shares {
            cpu: share(earlier.cpu, self.cpu),
            memory: share(earlier.memory, self.memory),
            io: share(earlier.io, self.io),
        }
    }
}

/// The total of a line of a pressure file, in microseconds: `some avg10=0.00 … total=1234`.
pub(crate) fn total_micros(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '))?;
    line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn shares_are_of_the_time_between_two_readings() {
        let host = FakeHost::v2();
        let both = |some: u64, full: u64| {
            format!("some avg10=1.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 total={full}\n")
        };
        host.write("proc/pressure/cpu", both(1_000_000, 7).as_bytes());
        host.write("proc/pressure/memory", both(9, 500_000).as_bytes());
        let first = host.reader().stalls();
        assert_eq!((first.cpu, first.memory, first.io), (Some(1_000_000), Some(500_000), None));
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let before = Stalls { at: at(10), ..first };
        let after = Stalls { at: at(12), cpu: Some(1_500_000), memory: Some(9_000_000), io: Some(3) };
        let expected = Shares { cpu: Some(0.25), memory: Some(1.0), io: None };
        assert_eq!(after.since(&before), expected);
        assert_eq!(before.since(&before), Shares::default());
    }

    #[test]
    fn without_pressure_files_nothing_is_known() {
        let host = FakeHost::v2();
        let stalls = host.reader().stalls();
        assert_eq!((stalls.cpu, stalls.memory, stalls.io), (None, None, None));
        assert_eq!(total_micros("garbage\nsomething total=5\nsome total=x", "some"), None);
    }
}
