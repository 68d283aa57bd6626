//! The output of a command under `exec`: rotated by size, with a time before each line, and on a disk that is slow or full.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, text},
    parts::require_root,
    process::{kill, stop, until, with_argument},
    supervised::Supervised,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::Signal,
    thread::{UnshareFlags, unshare_unsafe},
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn config(service: &str) -> String {
    format!("[http]\nlisten = \"\"\n{service}")
}

/// A name for the command, which its arguments have and no other process's.
fn marked(service: &Supervised) -> String {
    format!("{}.output", service.name)
}

fn shell(service: &Supervised, script: &str) -> String {
    service.service(&["/bin/sh", "-c", script, &marked(service)])
}

/// Its shell.
fn pid_of(service: &Supervised) -> u32 {
    until("its process", LONG, || with_argument(&marked(service)).first().copied())
}

/// The output's files one after the other, the oldest first.
fn rotated(service: &Supervised) -> Vec<Vec<u8>> {
    let file = |number: usize| match number {
        0 => service.folder().join("output"),
        older => service.folder().join(format!("output.{older}")),
    };
    let count = (0..).take_while(|number| file(*number).exists()).count();
    (0..count).rev().map(|number| fs::read(file(number)).expect("it can be read")).collect()
}

#[test]
fn a_fast_writer_fills_many_files_and_loses_no_byte() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = "seq 1 3000000; echo end; while :; do sleep 1; done";
    let keys = "output_max = \"1MiB\"\noutput_keep = 100\n";
    let mut daemon = Daemon::start(&config(&(shell(&service, script) + keys)), &[]);
    until("the last line", LONG, || service.output().ends_with("end\n").then_some(()));
    daemon.stop();
    let files = rotated(&service);
    assert!(files.len() > 20, "{} files", files.len());
    // A line that was begun ends in its file.
    let largest = (1 << 20) + "3000000\n".len();
    for file in &files {
        assert!(file.len() <= largest && file.ends_with(b"\n"), "{} bytes", file.len());
    }
    let mut expected: String = (1..=3_000_000).map(|number| format!("{number}\n")).collect();
    expected.push_str("end\n");
    assert!(files.concat() == expected.as_bytes(), "{} bytes of {}", files.concat().len(), expected.len());
    assert_eq!(daemon.lost("output"), 0);
}

#[test]
fn only_so_many_old_files_are_kept() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = "seq 1 300000; echo end; while :; do sleep 1; done";
    let keys = "output_max = \"64KiB\"\noutput_keep = 2\noutput_stamp = true\n";
    let _daemon = Daemon::start(&config(&(shell(&service, script) + keys)), &[]);
    until("the last line", LONG, || service.output().ends_with(" end\n").then_some(()));
    assert_eq!(rotated(&service).len(), 3);
}

#[test]
fn each_line_of_both_outputs_has_its_time_also_after_a_restart() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = "echo one; echo two >&2; sleep 0.3; printf torn; while :; do sleep 1; done";
    let before = time_now();
    let daemon = Daemon::start(&config(&(shell(&service, script) + "output_stamp = true\n")), &[]);
    let ends = |text: &str| until("its output", LONG, || service.output().ends_with(text).then_some(()));
    ends(" torn");
    let mark = daemon.mark();
    kill(pid_of(&service));
    IncidentEvents::of(&daemon, mark, &service.name);
    until("the second start", LONG, || (service.output().matches("torn").count() == 2).then_some(()));
    let output = service.output();
    let lines: Vec<(&str, &str)> =
        output.lines().map(|line| line.split_once(' ').expect("a time and a line")).collect();
    let texts: Vec<&str> = lines.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["one", "two", "torn", "one", "two", "torn"]);
    let times: Vec<&str> = lines.iter().map(|(time, _)| *time).collect();
    assert!(times.is_sorted() && times[0] >= &*before && times[5] <= &*time_now(), "{times:?}");
    assert!(times[2] > times[1] && times.iter().all(|time| time.len() == before.len()), "{times:?}");
}

/// The present time in the form of a stamp.
fn time_now() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output().expect("date runs");
    String::from_utf8(date.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_service_with_a_pipe_outlives_its_daemon() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = "while :; do echo line || exit 1; sleep 0.02; done";
    let mut daemon = Daemon::start(&config(&(shell(&service, script) + "output_stamp = true\n")), &[]);
    until("its output", LONG, || (!service.output().is_empty()).then_some(()));
    let pid = pid_of(&service);
    daemon.signal(Signal::KILL);
    daemon.wait(LONG);
    std::thread::sleep(Duration::from_secs(1));
    // A child that has not executed its program yet has the same arguments.
    assert!(with_argument(&marked(&service)).contains(&pid), "no SIGPIPE has ended it");
    kill(pid);
}

#[test]
fn a_disk_that_takes_nothing_costs_lines_which_are_counted() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = "echo 1; echo 2; echo 3; while :; do sleep 1; done";
    let output = format!("{:?}", service.folder().join("output").display().to_string());
    let service_config =
        (shell(&service, script) + "output_stamp = true\n").replace(&output, "\"/dev/full\"");
    let daemon = Daemon::start(&config(&service_config), &[]);
    until("all lines are counted", LONG, || (daemon.lost("output") >= 3).then_some(()));
    assert_eq!(daemon.lost("output"), 3);
    let is_said =
        |line: &str| line.contains(&format!("{}: ", service.name)) && line.contains("No space left");
    until("the log says why", LONG, || daemon.log().lines().any(is_said).then_some(()));
    assert_eq!(daemon.count(|event| is(event, "incident.open", &service.name)), 0);
}

/// Has the daemon see a small file system at `path`, which others reach through [`seen_by`].
fn with_small_disk<'c>(command: &'c mut Command, path: &Path) -> &'c mut Command {
    let path = path.to_owned();
    let mount_it = move || {
        // SAFETY: the process is about to execute the daemon, and has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok::<(), io::Error>(mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"size=256k")?)
    };
    // SAFETY: between fork and exec it makes system calls on paths; the test has no other thread that holds a lock.
    unsafe { command.pre_exec(mount_it) }
}

/// A path as a process sees it.
fn seen_by(pid: u32, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{}", path.display()))
}

/// Does something to files while the daemon neither makes nor renames any.
fn while_stopped(daemon: &Daemon, work: impl FnOnce()) {
    stop(daemon.pid());
    work();
    daemon.signal(Signal::CONT);
}

#[test]
fn a_disk_that_fills_up_costs_lines_and_none_is_torn_once_it_has_room_again() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let disk = service.folder().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let script = "i=0; while :; do i=$((i+1)); echo \"line $i end\"; done";
    let keys = "output_max = \"64KiB\"\noutput_keep = 10\n";
    let folder = service.folder().display().to_string();
    let at_disk = (shell(&service, script) + keys)
        .replace(&format!("{folder}/output"), &format!("{folder}/disk/output"));
    let daemon = Daemon::start_with(&config(&at_disk), &[], |command| with_small_disk(command, &disk));
    let lost = |event: &serde_json::Value| {
        event_action(event) == "stream.loss" && text(event, "loss.class") == "output"
    };
    daemon.wait_for(lost, LONG);
    let seen = seen_by(daemon.pid(), &disk);
    let old_files = || {
        let entries = fs::read_dir(&seen).expect("a folder").flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with("output")).collect::<Vec<_>>()
    };
    let mut torn = 0;
    for _ in 0..3 {
        let mark = daemon.mark();
        // With the room of the first file it would rename the others, and fill the disk before the last one is removed.
        while_stopped(&daemon, || {
            old_files().into_iter().for_each(|path| fs::remove_file(path).expect("it is removed"));
        });
        daemon.wait_for_after(mark, lost, LONG);
        let texts = old_files().into_iter().filter_map(|path| fs::read_to_string(path).ok());
        for line in texts.collect::<String>().lines() {
            let number = line.strip_prefix("line ").and_then(|line| line.strip_suffix(" end"));
            if number.is_none_or(|number| number.parse::<u64>().is_err()) {
                torn += 1;
                assert!(
                    line.matches("line").count() <= 1 && !line.ends_with("end"),
                    "{line:?} is a beginning"
                );
            }
        }
    }
    assert!(torn <= 3, "{torn} lines are torn, each where the disk was full");
}

#[test]
fn an_output_that_is_moved_or_removed_with_its_folder_is_made_again() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let folder = service.folder().join("logs");
    let own = service.folder().display().to_string();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let configured = (shell(&service, script) + "output_max = \"1MiB\"\n")
        .replace(&format!("{own}/output"), &format!("{own}/logs/output"));
    let daemon = Daemon::start(&config(&configured), &[]);
    let path = folder.join("output");
    let written = |path: &Path| {
        until("its output", LONG, || fs::read_to_string(path).ok().filter(|text| text.lines().count() > 5))
    };
    written(&path);
    let moved = folder.join("moved");
    fs::rename(&path, &moved).expect("it is moved");
    let next = written(&path);
    let last = fs::read_to_string(&moved).expect("text");
    let number = |line: Option<&str>| line.and_then(|line| line.parse::<u64>().ok()).expect("a number");
    assert_eq!(number(next.lines().next()), number(last.lines().last()) + 1, "no line is lost");
    while_stopped(&daemon, || fs::remove_dir_all(&folder).expect("it is removed"));
    written(&path);
    assert_eq!(daemon.lost("output"), 0);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_the_service_alone() {
    if !require_root() {
        return;
    }
    let (service, port) = (Supervised::new(), free_port());
    let path = service.folder().join("output");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a FIFO");
    // A reader that never reads.
    let _reader = OpenOptions::new().read(true).custom_flags(0o4000).open(&path).expect("it opens");
    let script = "seq 1 1000000; echo done >/dev/null; while :; do sleep 1; done";
    let page = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let mut daemon = Daemon::start(&(page + &shell(&service, script) + "output_stamp = true\n"), &[]);
    daemon.ready();
    let pid = pid_of(&service);
    std::thread::sleep(Duration::from_secs(2));
    // Pages of its program come and go with what it does.
    let allocated = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
        line.split_whitespace().next().and_then(|size| size.parse::<u64>().ok()).expect("a number")
    };
    let before = allocated(daemon.pid());
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(http::get(port, "/livez").expect("an answer").0, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(allocated(daemon.pid()) < before + 2048, "{before} KiB grew to {}", allocated(daemon.pid()));
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let began = Instant::now();
    daemon.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
