//! The host in a few numbers, for people.

use super::{
    ProcReader,
    mount::{self, Storage},
    pressure::{Shares, Stalls},
    read_text,
};

/// `/proc/stat` has a line for each CPU and a long one of interrupts.
const STAT_MAX: u64 = 1 << 20;

const MEMINFO_MAX: u64 = 64 * 1024;

/// The fields of a line of `/proc/stat` in which a CPU is idle: `idle` and `iowait` (`proc_stat(5)`).
const IDLE: [usize; 2] = [3, 4];

/// The fields that count: `guest` and `guest_nice` are a part of `user` and `nice`.
const COUNTED: usize = 8;

/// Readings of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overview {
    /// Busy and all ticks of all CPUs since the boot.
    ticks: Option<(u64, u64)>,
    /// In percent of all.
    pub memory: Option<f64>,
    /// In percent of all; None without swap.
    pub swap: Option<f64>,
    stalls: Stalls,
}

impl Overview {
    /// The CPU time since an earlier reading, in percent of all CPUs. None if no time has passed.
    pub fn cpu_percent(&self, earlier: &Self) -> Option<f64> {
        let ((busy, all), (busy_before, all_before)) = (self.ticks?, earlier.ticks?);
        let elapsed = all.checked_sub(all_before).filter(|elapsed| *elapsed > 0)?;
        Some(busy.saturating_sub(busy_before) as f64 / elapsed as f64 * 100.0)
    }

    /// The pressure since an earlier reading.
    pub fn pressure(&self, earlier: &Self) -> Shares {
        self.stalls.since(&earlier.stalls)
    }
}

/// The fullest file system on a disk.
#[derive(Clone, Debug, PartialEq)]
pub struct FullestDisk {
    pub point: String,
    /// Used space in percent, as `df` prints it.
    pub percent: f64,
}

impl ProcReader {
    pub fn overview(&self) -> Overview {
        let read = |name: &str, limit| read_text(&self.proc().join(name), limit).unwrap_or_default();
        let meminfo = read("meminfo", MEMINFO_MAX);
        let kibibytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let used = |all: &str, free: &str| {
            let (all, free) = (kibibytes(all).filter(|all| *all > 0)?, kibibytes(free)?);
            Some(all.saturating_sub(free) as f64 / all as f64 * 100.0)
        };
        Overview {
            ticks: ticks(&read("stat", STAT_MAX)),
            memory: used("MemTotal", "MemAvailable"),
            swap: used("SwapTotal", "SwapFree"),
            stalls: self.stalls(),
        }
    }

    /// The file system of a local disk with the least space left. It asks each of them, which may hang.
    pub fn fullest_disk(&self) -> Option<FullestDisk> {
        let (mounts, _) = self.mounts().ok()?;
        let disks = mount::file_systems(mounts).into_iter().filter(|mount| mount.storage() == Storage::Disk);
        let used = disks.filter_map(|disk| {
            let space = rustix::fs::statvfs(disk.point.as_str()).ok()?;
            let used = space.f_blocks.checked_sub(space.f_bfree)?;
            let usable = used + space.f_bavail;
            (usable > 0)
                .then(|| FullestDisk { point: disk.point, percent: used as f64 / usable as f64 * 100.0 })
        });
        used.max_by(|one, other| one.percent.total_cmp(&other.percent))
    }
}

/// Busy and all ticks of all CPUs, by the first line of `/proc/stat`.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(COUNTED);
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let all = ticks.iter().try_fold(0_u64, |sum, ticks| sum.checked_add(*ticks))?;
    let idle: u64 = IDLE.iter().filter_map(|at| ticks.get(*at)).sum();
    Some((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn the_host_in_numbers() {
        let host = FakeHost::v2();
        host.write("proc/stat", b"cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n");
        host.write(
            "proc/meminfo",
            b"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        );
        let before = host.reader().overview();
        assert_eq!((before.memory, before.swap), (Some(75.0), None));
        host.write("proc/stat", b"cpu  150 0 150 750 150 0 0 0 90 0\n");
        let now = host.reader().overview();
        assert_eq!(now.cpu_percent(&before), Some(50.0));
        assert_eq!(now.cpu_percent(&now), None);
    }

    #[test]
    fn nonsense_is_no_number() {
        for stat in ["", "cpu", "cpu  x 1 2 3", "cpu  18446744073709551615 1 1 1 1", "intr 1"] {
            assert_eq!(ticks(stat), None, "{stat}");
        }
        let host = FakeHost::v2();
        host.write("proc/meminfo", b"MemTotal: 10 kB\nMemAvailable: 99 kB\nSwapTotal: 5 MB\n");
        let overview = host.reader().overview();
        assert_eq!((overview.memory, overview.swap), (Some(0.0), None));
    }
}
