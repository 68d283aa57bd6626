//! What the hardware, and a hypervisor below it, do to the host: CPU time, memory, heat, memory errors.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ProcReader, read_text};

/// CPU time of all CPUs since the boot, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub total: u64,
    /// Time that the hypervisor gave to others.
    pub steal: u64,
}

/// Memory errors since the boot, by the EDAC drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryErrors {
    pub corrected: u64,
    pub uncorrected: u64,
}

/// The memory of the host that can be used without huge pages, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
}

impl ProcReader {
    /// None before Linux 3.14, which does not show what is available.
    pub fn memory(&self) -> Option<Memory> {
        let text = read_text(&self.proc().join("meminfo"), 64 * 1024).ok()?;
        let kibibytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        // What is set aside as huge pages is not available to others, on purpose.
        let huge = kibibytes("Hugetlb:").unwrap_or(0);
        let total = kibibytes("MemTotal:")?.saturating_sub(huge).saturating_mul(1024);
        Some(Memory { total, available: kibibytes("MemAvailable:")?.saturating_mul(1024) })
    }

    pub fn cpu_times(&self) -> Option<CpuTimes> {
        let text = read_text(&self.proc().join("stat"), 1 << 20).ok()?;
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user and nice (`proc_stat(5)`).
        let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|it| it.parse().ok()).collect();
        let total = ticks.iter().fold(0_u64, |sum, it| sum.saturating_add(*it));
        Some(CpuTimes { total, steal: *ticks.get(7)? })
    }

    /// How long the CPU that was slowed down by heat for the longest time was so since the boot. None where the hardware does
    /// not say, as in a virtual machine.
    pub fn throttled(&self) -> Option<Duration> {
        let cpus = entries(&self.sys().join("devices/system/cpu"), "cpu");
        let times = cpus.into_iter().filter_map(|cpu| {
            let number = |name: &str| read_number(&cpu.join("thermal_throttle").join(name));
            let names = ["core_throttle_total_time_ms", "package_throttle_total_time_ms"];
            names.into_iter().filter_map(number).max()
        });
        times.max().map(Duration::from_millis)
    }

    /// None without a driver that counts them.
    pub fn memory_errors(&self) -> Option<MemoryErrors> {
        let mut found = None;
        for controller in entries(&self.sys().join("devices/system/edac/mc"), "mc") {
            let count = |name: &str| read_number(&controller.join(name)).unwrap_or(0);
            let sum: &mut MemoryErrors = found.get_or_insert_default();
            sum.corrected = sum.corrected.saturating_add(count("ce_count"));
            sum.uncorrected = sum.uncorrected.saturating_add(count("ue_count"));
        }
        found
    }

    fn sys(&self) -> PathBuf {
        self.proc().with_file_name("sys")
    }
}

/// The entries of a folder with this name and a number behind it.
fn entries(folder: &Path, name: &str) -> Vec<PathBuf> {
    let is_one = |entry: &fs::DirEntry| {
        let found = entry.file_name();
        let number = found.to_str().and_then(|found| found.strip_prefix(name));
        number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter(is_one).map(|entry| entry.path()).collect()
}

fn read_number(path: &Path) -> Option<u64> {
    read_text(path, 64).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn what_the_hardware_shows_is_summed_up() {
        let host = FakeHost::v2();
        let reader = host.reader();
        assert_eq!((reader.memory(), reader.cpu_times()), (None, None));
        assert_eq!((reader.throttled(), reader.memory_errors()), (None, None));
        host.write(
            "proc/meminfo",
            b"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 300 kB\nHugetlb: 600 kB\n",
        );
        host.write("proc/stat", b"cpu  10 20 30 40 0 0 0 25 7 7\ncpu0 1 1\n");
        host.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_total_time_ms", b"5\n");
        host.write("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_total_time_ms", b"70\n");
        host.write("sys/devices/system/cpu/cpufreq/thermal_throttle/core_throttle_total_time_ms", b"900\n");
        for (controller, corrected, uncorrected) in [("mc0", "3", "0"), ("mc1", "4", "1")] {
            let folder = format!("sys/devices/system/edac/mc/{controller}");
            host.write(&format!("{folder}/ce_count"), corrected.as_bytes());
            host.write(&format!("{folder}/ue_count"), uncorrected.as_bytes());
        }
        assert_eq!(reader.memory(), Some(Memory { total: 400 << 10, available: 300 << 10 }));
        assert_eq!(reader.cpu_times(), Some(CpuTimes { total: 125, steal: 25 }));
        assert_eq!(reader.throttled(), Some(Duration::from_millis(70)));
        assert_eq!(reader.memory_errors(), Some(MemoryErrors { corrected: 7, uncorrected: 1 }));
        host.write("proc/stat", b"cpu  1 2 x\n");
        assert_eq!(reader.cpu_times(), None);
    }
}
