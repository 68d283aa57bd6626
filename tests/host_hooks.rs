//! Faults of the host, caused for real: what the kernel hooks report of them, and what the kernel's log says where a hook
//! is missing. Each fault is reported once, although both see it.

use std::{
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hostprobe::{
    clock::Timestamp,
    fact::{HostCheck, Source},
    host::ProcReader,
    sensor::{
        Sensors,
        ebpf::{Hook, Options},
        record::{HostReport, Record},
    },
};
use hostprobe_tests::{
    daemon::{Daemon, Mark, field},
    host_faults::{
        DAMAGED, DamagedDisk, FIRST_BAD_SECTOR, Frozen, HungTaskDetector, ShortDisk, name_of, read_sector,
    },
    incident_events::{is, number, text},
    kernel_hooks::possible,
    loop_disk::LoopDisk,
    parts::{require, require_root},
    process::until,
    xfs_disk::XfsDisk,
};
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(120);

const CONFIG: &str = "[http]\nlisten = \"\"\n[host]\nfilesystems = false\n";

/// What an event of the host's state says of a fault: its provider, and what the hook saw.
struct Seen(Value);

impl Seen {
    #[track_caller]
    fn of(daemon: &Daemon, check: &str, target: &str) -> Self {
        let is_it = |event: &Value| {
            is(event, "host.state", "host")
                && text(event, "host_check.name") == check
                && text(event, "host_check.target") == target
        };
        Self(daemon.wait_for_after(Mark::default(), is_it, LONG))
    }

    fn provider(&self) -> &str {
        text(&self.0, "event.provider")
    }

    fn text(&self, key: &str) -> &str {
        text(&self.0, &format!("host_check.fault.{key}"))
    }

    fn number(&self, key: &str) -> Option<i64> {
        number(&self.0, &format!("host_check.fault.{key}"))
    }

    /// From the log, without what a hook would have seen.
    #[track_caller]
    fn assert_from_log(&self) {
        assert_eq!((self.provider(), field(&self.0, "host_check.fault")), ("kmsg", None), "{:#}", self.0);
    }
}

/// A daemon without this hook; with all of them if none is named.
fn daemon(without: Option<Hook>) -> Daemon {
    let arguments: Vec<&str> =
        without.iter().flat_map(|hook| ["--without-hook", hook.tracepoint()]).collect();
    let daemon = Daemon::start(CONFIG, &arguments);
    daemon.ready();
    daemon
}

/// Waits for the incident of a fault.
#[track_caller]
fn opened(daemon: &Daemon, verdict: &str, target: &str) -> Value {
    let is_it = |event: &Value| {
        is(event, "incident.open", "host")
            && text(event, "incident.verdict") == verdict
            && text(event, "host_check.target") == target
    };
    daemon.wait_for_after(Mark::default(), is_it, LONG)
}

/// One test at a time: loop devices are used again, and the settings for hung tasks are the host's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test with all hooks, then without the one that it is about. Without it alone, if the kernel does not have that.
fn with_and_without(hook: Hook, test: impl Fn(&Daemon, bool)) {
    let _alone = alone();
    if possible().contains(&hook) {
        test(&daemon(None), true);
    }
    test(&daemon(Some(hook)), false);
}

#[test]
fn a_failed_read_is_an_incident_with_its_sector() {
    with_and_without(Hook::BlockError, |daemon, hooked| {
        let Some(disk) = ShortDisk::new() else { return };
        read_sector(disk.path(), FIRST_BAD_SECTOR).expect_err("the file of the disk ends there");
        let seen = Seen::of(daemon, "block_errors", &disk.name());
        let open = opened(daemon, "host_block_errors", &disk.name());
        if !hooked {
            return seen.assert_from_log();
        }
        assert_eq!(
            (seen.provider(), seen.text("operation"), seen.text("error")),
            ("ebpf", "read", "I/O error")
        );
        assert_eq!((seen.number("sector"), seen.number("bytes")), (Some(2048), Some(4096)));
        let words = format!("{}: a read of 4096 bytes at sector 2048 failed: I/O error", disk.name());
        assert_eq!(text(&open, "incident.summary"), words);
    });
}

#[test]
fn a_task_that_waits_for_a_frozen_file_system_is_an_incident_with_its_pid() {
    with_and_without(Hook::HungTask, |daemon, hooked| {
        let Some(disk) = LoopDisk::new(16, &[]) else { return };
        let _detector = HungTaskDetector::hasty().expect("the kernel's detector");
        let frozen = Frozen::new(disk.path()).expect("it is frozen");
        let mut writer =
            Command::new("/usr/bin/touch").arg(disk.path().join("file")).spawn().expect("touch can be run");
        let seen = Seen::of(daemon, "hung_task", "touch");
        opened(daemon, "host_hung_task", "touch");
        drop(frozen);
        assert!(writer.wait().expect("its end").success());
        if !hooked {
            return seen.assert_from_log();
        }
        let pid = Some(i64::from(writer.id()));
        assert_eq!((seen.provider(), seen.text("process")), ("ebpf", "touch"));
        assert_eq!((seen.number("pid"), seen.number("thread_id")), (pid, pid));
    });
}

#[test]
fn a_damaged_ext4_is_an_incident_with_the_process_that_came_across_it() {
    with_and_without(Hook::Ext4Error, |daemon, hooked| {
        let Some(disk) = DamagedDisk::new() else { return };
        let mut list =
            Command::new("/bin/ls").arg(disk.path().join(DAMAGED)).stderr(Stdio::null()).spawn().expect("ls");
        assert!(!list.wait().expect("its end").success(), "the file can be read");
        let name = name_of(disk.device());
        let seen = Seen::of(daemon, "fs_errors", &name);
        opened(daemon, "host_fs_errors", &name);
        if !hooked {
            return seen.assert_from_log();
        }
        assert_eq!((seen.provider(), seen.text("process")), ("ebpf", "ls"));
        assert_eq!(seen.number("pid"), Some(list.id().into()));
        assert!(seen.text("place").starts_with("ext4_lookup:"), "{:#}", seen.0);
    });
}

#[test]
fn a_damaged_xfs_that_is_given_up_is_an_incident() {
    if !has_xfs() {
        return;
    }
    with_and_without(Hook::XfsShutdown, |daemon, hooked| {
        let disk = XfsDisk::damaged();
        let name = name_of(disk.device());
        disk.remove().expect("the file is removed, and then its inode cannot be freed");
        let seen = Seen::of(daemon, "fs_errors", &name);
        opened(daemon, "host_fs_errors", &name);
        if !hooked {
            return seen.assert_from_log();
        }
        assert_eq!((seen.provider(), seen.text("error")), ("ebpf", "an I/O error of its metadata"));
        assert!(seen.text("place").contains("xfs_inode.c:"), "{:#}", seen.0);
    });
}

#[test]
fn what_no_hook_sees_comes_from_the_log_while_all_hooks_are_attached() {
    if !has_xfs() {
        return;
    }
    let _alone = alone();
    let daemon = daemon(None);
    let disk = XfsDisk::without_room();
    // XFS gives up at a failed write to its log, too, and has no tracepoint there.
    disk.write("after").expect_err("there is no room");
    let name = name_of(disk.device());
    Seen::of(&daemon, "fs_errors", &name).assert_from_log();
    opened(&daemon, "host_fs_errors", &name);
}

fn has_xfs() -> bool {
    require_root() && require("xfsprogs", "/usr/sbin/mkfs.xfs") && require("mount", "/usr/sbin/losetup")
}

/// Sensors, and what they have reported of the host.
struct Watch {
    sensors: Sensors,
    records: Vec<Record>,
}

impl Watch {
    fn open(without: &[Hook]) -> Self {
        let options =
            Options { host_reports: true, prober: 0, without: without.to_vec(), ..Options::default() };
        let reader = ProcReader::new("/").expect("/proc");
        let sensors = Sensors::open(&options, &reader, Timestamp::now()).expect("the sensors");
        Self { sensors, records: Vec::new() }
    }

    /// What the daemon does every second.
    fn take(&mut self) {
        self.sensors.drain(&mut self.records);
        self.sensors.every_second(Vec::new(), &mut self.records);
    }

    fn of(&self, check: HostCheck, target: &str) -> Vec<&HostReport> {
        let reports = self
            .records
            .iter()
            .filter_map(|record| if let Record::Host(report) = record { Some(report) } else { None });
        reports.filter(|it| it.subject.check == check && it.subject.target == target).collect()
    }
}

#[test]
fn a_disk_that_fails_thousands_of_reads_is_reported_once_and_then_by_their_number() {
    const READS: u64 = 3000;
    let _alone = alone();
    let Some(disk) = ShortDisk::new() else { return };
    if !possible().contains(&Hook::BlockError) {
        return;
    }
    let mut watch = Watch::open(&[]);
    let mut by_log = Watch::open(&[Hook::BlockError]);
    let read = || read_sector(disk.path(), FIRST_BAD_SECTOR).expect_err("the file of the disk ends there");
    for _ in 0..READS {
        read();
    }
    let mut reads = READS;
    // The log has the same, and both sensors read it. The kernel leaves out most lines, here of other disks too.
    until("a line of the log", LONG, || {
        read();
        reads += 1;
        by_log.take();
        (!by_log.of(HostCheck::BlockErrors, &disk.name()).is_empty()).then_some(())
    });
    let reported = |watch: &Watch| -> Vec<(Source, u64)> {
        watch.of(HostCheck::BlockErrors, &disk.name()).iter().map(|it| (it.source, it.count)).collect()
    };
    until("the number of all", LONG, || {
        let known = reported(&watch).len();
        watch.take();
        let (found, lost) = (reported(&watch), watch.sensors.losses());
        if found.len() > known || !lost.is_empty() {
            println!("{found:?} of {reads} are known, and this was lost: {lost:?}");
        }
        (found.iter().map(|(_, count)| count).sum::<u64>() >= reads).then_some(())
    });
    let found = reported(&watch);
    assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), reads, "{found:?}");
    assert!(found[0].1 == 1 && found.iter().all(|(source, _)| *source == Source::Ebpf), "{found:?}");
    assert!(found.len() < 20, "{found:?}");
    assert_eq!(by_log.of(HostCheck::BlockErrors, &disk.name())[0].source, Source::Kmsg);
}

#[test]
fn the_coverage_says_which_hooks_the_kernel_has_and_that_the_log_stands_in() {
    if !require_root() {
        return;
    }
    let ready = Daemon::start(CONFIG, &[]).ready();
    let coverage = field(&ready, "coverage").and_then(Value::as_array).expect("a list");
    let possible = possible();
    for hook in Hook::ALL.into_iter().filter(|hook| hook.host_check().is_some()) {
        let covered = coverage.iter().find(|it| it["hook"] == hook.tracepoint()).expect("the hook");
        let is_possible = possible.contains(&hook);
        assert_eq!(covered["attached"], json!(is_possible), "{covered}");
        let fallback = covered["fallback"].as_str().unwrap_or_default();
        assert_eq!(fallback.starts_with("the kernel's log"), !is_possible, "{covered}");
    }
    // A kernel that lacks only what it has no part for is seen as a whole.
    assert_eq!(text(&ready, "event.outcome"), "success", "{ready:#}");
}
