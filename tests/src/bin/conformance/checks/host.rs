//! Faults of the host: the record of a hook, the line of the kernel's log that stands for it, and the repeats.
//!
//! The virtual machines have two NVMe disks for it. This host has loop devices.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::{
    clock::Timestamp,
    fact::{HostCheck, HostFault, Source},
    host::ProcReader,
    sensor::{
        ebpf::Hook,
        fallback::FallbackSensor,
        record::{HostReport, Record},
    },
};
use hostprobe_tests::host_faults::{
    DAMAGED, DamagedDisk, FIRST_BAD_SECTOR, Frozen, HungTaskDetector, ShortDisk, name_of, read_sector,
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tempfile::TempDir;

use super::prog_run;
use crate::{
    fixture::Fixture,
    report::{self, Outcome},
    workload::Workload,
};

/// Serial numbers of the disks of a virtual machine: one that fails reads, and one with a damaged file system.
const FAILING: &str = "failing";
const WITH_DAMAGE: &str = "damaged";

/// The emulator's monitor, where the emulator offers it.
const MONITOR: &str = "/dev/ttyS2";

/// For one event. An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Failed reads after the first one.
const REPEATS: u64 = 200;

/// More than the repeats of a kind wait.
const LATER_NS: u64 = 11_000_000_000;

/// Each fault gives two rows: what its hook reports, and what the log says.
pub fn run(fixture: &mut Fixture) {
    both(fixture, "failed read of a disk", failed_read);
    let mounted = Mounted::new();
    both(fixture, "hung task", |witnesses| hung_task(witnesses, of(&mounted)?));
    both(fixture, "damaged ext4", |witnesses| damaged(witnesses, of(&mounted)?));
    drop(mounted);
    report::check("uncorrected error that the processor reports", &machine_check(fixture));
    fixture.clear();
    report::check("uncorrected error of a memory module, simulated", &memory_error(fixture));
    fixture.clear();
}

fn of(mounted: &Result<Mounted>) -> Result<&Mounted> {
    mounted.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// The sources of a fault.
struct Witnesses<'f> {
    fixture: &'f mut Fixture,
    log: FallbackSensor,
}

/// What the hook reports, and the log.
struct Reports {
    hook: Result<Outcome>,
    log: Result<Outcome>,
}

fn both(fixture: &mut Fixture, name: &str, check: impl FnOnce(&mut Witnesses<'_>) -> Result<Reports>) {
    let log = ProcReader::new("/").map_err(Into::into).and_then(|reader| {
        // Only the log is opened, as no hook is missing.
        FallbackSensor::open((&[], true), &reader, 0, Timestamp::now()).context("the kernel's log")
    });
    let reports = log.and_then(|log| check(&mut Witnesses { fixture: &mut *fixture, log }));
    let reports = reports.unwrap_or_else(|error| {
        let again = Err(anyhow::anyhow!("{error:#}"));
        Reports { hook: Err(error), log: again }
    });
    report::check(name, &reports.hook);
    report::check(&format!("fallback: {name}"), &reports.log);
    fixture.clear();
}

impl Witnesses<'_> {
    /// The hook's report about this target.
    fn hook(&mut self, check: HostCheck, target: &str) -> Result<HostReport> {
        self.fixture.wait_for(check.as_str(), |record| is_about(record, check, target))
    }

    /// Why the kernel has no such hook, if it has none.
    fn absent(&self, hook: Hook) -> Option<String> {
        let coverage = self.fixture.sensor.coverage().iter().find(|it| it.hook == hook)?;
        coverage.reason.clone().filter(|_| coverage.absent)
    }

    /// What the log says of this target.
    fn log(&mut self, check: HostCheck, target: &str) -> Result<Outcome> {
        let deadline = Instant::now() + TIMEOUT;
        let mut records = Vec::new();
        while Instant::now() < deadline {
            self.log.drain_host_log(&mut records);
            let found = records.iter().find_map(|record| is_about(record, check, target));
            if let Some(report) = found {
                ensure!(report.source == Source::Kmsg && report.fault.is_none(), "{report:?}");
                return Ok(Outcome::Passed("its name, from the kernel log".to_owned()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the log says nothing of {} {target}; {records:?}", check.as_str())
    }
}

fn is_about(record: &Record, check: HostCheck, target: &str) -> Option<HostReport> {
    let Record::Host(report) = record else { return None };
    let is_it = report.subject.check == check && report.subject.target == target;
    is_it.then(|| report.clone())
}

fn fault(report: HostReport) -> Result<HostFault> {
    ensure!(report.source == Source::Ebpf && report.count == 1 && !report.words.is_empty(), "{report:?}");
    report.fault.context("no detail")
}

/// The NVMe disk with this serial number. The kernel numbers them in the order in which they answer.
fn disk_with(serial: &str) -> Option<PathBuf> {
    let controllers = fs::read_dir("/sys/class/nvme").ok()?.filter_map(Result::ok);
    let has_it = |path: &Path| fs::read_to_string(path.join("serial")).is_ok_and(|it| it.trim() == serial);
    let found = controllers.map(|entry| entry.path()).find(|path| has_it(path))?;
    Some(Path::new("/dev").join(format!("{}n1", name_of(&found))))
}

/// A disk fails a read, and then more of them.
fn failed_read(witnesses: &mut Witnesses<'_>) -> Result<Reports> {
    let of_machine = disk_with(FAILING);
    let own = if of_machine.is_none() { Some(ShortDisk::new().context("no loop device")?) } else { None };
    let disk = of_machine.as_deref().or(own.as_ref().map(ShortDisk::path)).context("no disk")?;
    let name = name_of(disk);
    let read = || read_sector(disk, FIRST_BAD_SECTOR).map_or(Ok(()), |()| bail!("{name} can be read"));
    read()?;
    let hook = match witnesses.absent(Hook::BlockError) {
        Some(reason) => Ok(Outcome::Absent(reason)),
        None => counted_reads(witnesses, &name, read),
    };
    Ok(Reports { hook, log: witnesses.log(HostCheck::BlockErrors, &name) })
}

fn counted_reads(
    witnesses: &mut Witnesses<'_>,
    name: &str,
    read: impl Fn() -> Result<()>,
) -> Result<Outcome> {
    let fault = fault(witnesses.hook(HostCheck::BlockErrors, name)?)?;
    ensure!(fault.operation.as_deref() == Some("read") && fault.bytes == Some(4096), "{fault:?}");
    ensure!(fault.sector == Some(FIRST_BAD_SECTOR), "{fault:?}");
    let errors = ["I/O error", "critical medium error"];
    ensure!(fault.error.as_deref().is_some_and(|error| errors.contains(&error)), "{fault:?}");
    for _ in 0..REPEATS {
        read()?;
    }
    let mut records = Vec::new();
    witnesses.fixture.sensor.drain(&mut records);
    let more =
        records.iter().filter(|record| is_about(record, HostCheck::BlockErrors, name).is_some()).count();
    ensure!(more == 0, "{more} records of repeats");
    let repeats = witnesses.fixture.sensor.repeated_faults(Timestamp::now().as_nanos() + LATER_NS);
    let counts: Vec<u64> = repeats.iter().filter(|it| it.subject.target == name).map(|it| it.count).collect();
    ensure!(counts == [REPEATS], "{counts:?}");
    Ok(Outcome::Passed(format!("disk, sector, length, operation, error; {REPEATS} more counted")))
}

/// A process writes to a file system that is frozen.
fn hung_task(witnesses: &mut Witnesses<'_>, mounted: &Mounted) -> Result<Reports> {
    let _detector = HungTaskDetector::hasty()?;
    let frozen = Frozen::new(mounted.path())?;
    let file = mounted.path().join("written").display().to_string();
    let mut writer = Workload::start(&["write", &file])?;
    writer.release();
    let found = witnesses.hook(HostCheck::HungTask, "write");
    let log = witnesses.log(HostCheck::HungTask, "write");
    drop(frozen);
    ensure!(writer.wait()? == 0, "the writer failed");
    let task = fault(found?)?.task.context("no task")?;
    let is_it = task.pid == writer.pid() && task.tid == Some(writer.pid()) && task.name == "write";
    ensure!(is_it, "{task:?}, not {}", writer.pid());
    Ok(Reports { hook: Ok(Outcome::Passed("pid, thread and name of the task".to_owned())), log })
}

/// A process looks at a file whose inode is cleared.
fn damaged(witnesses: &mut Witnesses<'_>, mounted: &Mounted) -> Result<Reports> {
    let file = mounted.path().join(DAMAGED);
    ensure!(fs::metadata(&file).is_err(), "{} can be read", file.display());
    let name = name_of(mounted.device());
    let report = witnesses.hook(HostCheck::FsErrors, &name)?;
    let device = fs::metadata(mounted.path())?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    ensure!(report.device.as_deref() == Some(&device), "{:?}, not {device}", report.device);
    let fault = fault(report)?;
    ensure!(fault.place.as_deref().is_some_and(|place| place.starts_with("ext4_lookup:")), "{fault:?}");
    let task = fault.task.context("no task")?;
    let own = fs::read_to_string("/proc/self/comm")?;
    ensure!(task.pid == std::process::id() && task.name == own.trim(), "{task:?}, not {own}");
    let hook = Ok(Outcome::Passed("device, function, process".to_owned()));
    Ok(Reports { hook, log: witnesses.log(HostCheck::FsErrors, &name) })
}

/// An ext4 with a damaged file.
enum Mounted {
    OfMachine { disk: PathBuf, point: TempDir },
    OfHost(DamagedDisk),
}

impl Mounted {
    fn new() -> Result<Self> {
        let Some(disk) = disk_with(WITH_DAMAGE) else {
            return DamagedDisk::new().map(Self::OfHost).context("no loop device");
        };
        let point = tempfile::tempdir()?;
        mount(&disk, point.path(), c"ext4", MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {}", disk.display()))?;
        Ok(Self::OfMachine { disk, point })
    }

    fn device(&self) -> &Path {
        match self {
            Self::OfMachine { disk, .. } => disk,
            Self::OfHost(disk) => disk.device(),
        }
    }

    /// Its mount point.
    fn path(&self) -> &Path {
        match self {
            Self::OfMachine { point, .. } => point.path(),
            Self::OfHost(disk) => disk.path(),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Self::OfMachine { point, .. } = self {
            let _ = unmount(point.path(), UnmountFlags::DETACH);
        }
    }
}

/// The emulator sets a deferred error in a bank of the processor, as AMD's report memory that is lost. The kernel finds it
/// when it next looks.
fn machine_check(fixture: &mut Fixture) -> Result<Outcome> {
    const ADDRESS: u64 = 0x7000_0000;
    // VAL, EN, ADDRV, DEFERRED.
    const STATUS: u64 = 1 << 63 | 1 << 60 | 1 << 58 | 1 << 44;
    let coverage = fixture.sensor.coverage().iter().find(|it| it.hook == Hook::MachineCheck);
    if let Some(reason) = coverage.and_then(|it| it.reason.clone().filter(|_| it.absent)) {
        return Ok(Outcome::Absent(reason));
    }
    let Ok(mut monitor) = OpenOptions::new().read(true).write(true).open(MONITOR) else {
        return Ok(Outcome::NotTried("it needs an emulated processor".to_owned()));
    };
    // The monitor repeats what it reads, and so would the terminal.
    let mut line = tcgetattr(&monitor)?;
    line.make_raw();
    tcsetattr(&monitor, OptionalActions::Now, &line)?;
    for cpu in 0..2 {
        let interval = format!("/sys/devices/system/machinecheck/machinecheck{cpu}/check_interval");
        fs::write(&interval, "1").with_context(|| interval.clone())?;
    }
    // The emulated processor drops an error now and then.
    let mut inject = || {
        write!(monitor, "mce 0 1 {STATUS:#x} 0 {ADDRESS:#x} 0\r")?;
        let is_it = |record: &Record| is_about(record, HostCheck::MemoryErrors, "");
        fixture.wait_within(Duration::from_secs(15), "machine check", is_it)
    };
    let mut report = inject();
    for _ in 1..8 {
        if report.is_ok() {
            break;
        }
        report = inject();
    }
    let report = report?;
    let words = report.words.clone();
    ensure!(words.contains("CPU 0 ") && words.contains("bank 1, status 0x9400100000000000"), "{words}");
    ensure!(fault(report)?.address == Some(ADDRESS), "{words}");
    Ok(Outcome::Passed("processor, bank, status, address".to_owned()))
}

/// No machine here has memory with a driver that reports its errors, so the program is run with the arguments of one.
fn memory_error(fixture: &mut Fixture) -> Result<Outcome> {
    const ADDRESS: u64 = 0x1234_5000;
    const UNCORRECTED: u64 = 1;
    // No text: its address would have to be in the kernel.
    let label = 0;
    let program = prog_run::own(Hook::MemoryError.tracepoint())?;
    let corrected = [0, label, label, 1, 5, 0, 0, 0, ADDRESS, 0, 0, label];
    prog_run::run(&program, &corrected)?;
    let uncorrected = [UNCORRECTED, label, label, 3, 7, 0, 0, 0, ADDRESS, 0, 0, label];
    prog_run::run(&program, &uncorrected)?;
    let mut others = 0;
    let report = fixture.wait_for("memory error", |record| {
        others += u32::from(is_about(record, HostCheck::MemoryErrors, "MC5").is_some());
        is_about(record, HostCheck::MemoryErrors, "MC7")
    })?;
    let words = report.words.clone();
    ensure!(words == "MC7: 3 uncorrected memory errors of an unknown module, address 0x12345000", "{words}");
    ensure!(fault(report)?.address == Some(ADDRESS) && others == 0, "{words}; {others} corrected ones");
    Ok(Outcome::Passed("controller, number, address; none of a corrected one".to_owned()))
}
