//! The fallback in the running kernel: arm, trigger, assert. Each test waits for the records of its own
//! processes.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    fact::Source,
    sensor::record::{Exit, Record},
};

const LONG: Duration = Duration::from_secs(10);

struct Lab {
    fallback: FallbackSensor,
    runtime: Runtime,
    reader: ProcReader,
}

/// With every hook missing; None, and a line that says why, where the process connector cannot be had.
fn lab(test: &str) -> Option<Lab> {
    if let Err(error) = Connector::open() {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs the process connector: {error}");
        eprintln!("skipped {test}: needs the process connector: {error}");
        return None;
    }
    let reader = ProcReader::new("/").unwrap();
    let fallback = FallbackSensor::open((&Hook::ALL, false), &reader, u32::MAX, Timestamp::now()).unwrap();
    Some(Lab { fallback, runtime: Builder::new_current_thread().enable_all().build().unwrap(), reader })
}

impl Lab {
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Record) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            self.fallback.drain(&mut seen);
            if let Some(found) = seen.drain(..).find_map(&mut pick) {
                return found;
            }
            let readable = async { tokio::time::timeout(LONG, self.fallback.readable()).await };
            let _ = self.runtime.block_on(readable);
        }
        panic!("never reported: {what}; losses: {:?}", self.fallback.losses());
    }

    fn exit_of(&mut self, pid: u32) -> Exit {
        self.wait_for("an exit", |record| exit(record).filter(|exit| exit.pid == pid))
    }

    fn watch(&mut self, child: &Child) -> ProcessKey {
        let key = self.reader.key_of(child.id()).unwrap();
        self.fallback.watch_process(key);
        key
    }
}

fn exit(record: Record) -> Option<Exit> {
    if let Record::Exit(exit) = record { Some(exit) } else { None }
}

/// A shell that does `after` once it reads a line.
fn shell(after: &str) -> Child {
    let script = format!("read line; {after}");
    Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

#[test]
fn the_exit_of_a_watched_process_has_its_status() {
    let Some(mut lab) = lab("the_exit_of_a_watched_process_has_its_status") else { return };
    for (end, status) in [("exit 0", 0), ("exit 7", 0x0700), ("kill -KILL $$", 9)] {
        let mut child = shell(end);
        let key = lab.watch(&child);
        go(&mut child);
        let exit = lab.exit_of(child.id());
        assert_eq!((exit.status.0, exit.source), (Some(status), Source::Netlink), "{end}");
        assert_eq!((exit.start_ns, exit.parent_pid), (key.start.as_nanos(), std::process::id()));
        assert!(exit.at_ns > key.start.as_nanos() && !exit.oom_victim);
        child.wait().unwrap();
    }
}

#[test]
fn a_descendant_s_failure_is_reported_and_its_success_is_not() {
    let Some(mut lab) = lab("a_descendant_s_failure_is_reported_and_its_success_is_not") else { return };
    // The subshell of a subshell executes nothing, so that only its fork is reported.
    let mut child = shell("(exit 0); (read line </dev/null; exit 5); read line");
    let main = lab.watch(&child);
    go(&mut child);
    let failure = lab.wait_for("the failure of a descendant", |record| {
        exit(record).filter(|exit| exit.parent_pid == main.pid)
    });
    assert_eq!(failure.status.code(), Some(5));
    assert!(failure.start_ns >= main.start.as_nanos());
    child.kill().unwrap();
    child.wait().unwrap();
    lab.exit_of(main.pid);
    lab.fallback.unwatch_process(main.pid);
    let deadline = Instant::now() + LONG;
    while lab.fallback.exits.as_ref().is_some_and(|exits| exits.tracked() > 0) {
        assert!(Instant::now() < deadline, "a process that has ended is still tracked");
        lab.fallback.drain(&mut Vec::new());
    }
}

#[test]
fn a_victim_in_the_log_is_known_though_it_is_gone() {
    let Some(mut lab) = lab("a_victim_in_the_log_is_known_though_it_is_gone") else { return };
    let mut child = shell("sleep 1000 & wait; read line");
    let main = lab.reader.key_of(child.id()).unwrap();
    go(&mut child);
    let victim = loop {
        match lab.reader.process_tree().of(main.pid)[..] {
            [_, victim, ..] => break lab.reader.key_of(victim).unwrap(),
            _ => assert!(lab.reader.runs(main), "the shell has ended"),
        }
    };
    lab.fallback.watch_process(main);
    let pid = rustix::process::Pid::from_raw(victim.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while lab.reader.key_of(victim.pid) == Some(victim) {
        std::thread::yield_now();
    }
    let line = format!("3,1,1,-;Out of memory: Killed process {} (sleep) total-vm:1kB", victim.pid);
    let Some(LogLine::Oom(kill)) = kmsg::Lines::default().record(line.as_bytes()) else { panic!("{line}") };
    let mut kill = kill.record(lab.reader.cgroups());
    lab.fallback.exits.as_ref().unwrap().identify(&mut kill);
    assert_eq!((kill.start_ns, kill.main_pid), (victim.start.as_nanos(), Some(main.pid)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn threads_are_not_processes_and_the_leader_s_end_is_not_the_process_s() {
    let test = "threads_are_not_processes_and_the_leader_s_end_is_not_the_process_s";
    let Some(mut lab) = lab(test) else { return };
    // The first thread leaves, and another one ends the process with a code of its own.
    let code = "import ctypes, os, sys, threading\n\
                def last():\n sys.stdin.readline(); os._exit(9)\n\
                threading.Thread(target=last).start()\n\
                ctypes.CDLL(None).pthread_exit(0)";
    let child = Command::new("python3").args(["-c", code]).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs python3");
        eprintln!("skipped {test}: needs python3");
        return;
    };
    lab.watch(&child);
    go(&mut child);
    let exit = lab.exit_of(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(exit.status.code(), Some(9));
}

#[test]
fn without_the_connector_a_process_that_is_gone_is_still_reported() {
    let reader = ProcReader::new("/").unwrap();
    let mut exits = Exits::new(reader.clone(), None, (true, true), u32::MAX);
    let mut child = shell("exit 7");
    let key = reader.key_of(child.id()).unwrap();
    let mut waited = None;
    exits.watch(key, |_, process| {
        waited = process.try_clone_to_owned().ok();
        true
    });
    assert_eq!(exits.due_by(Timestamp::now()).len(), 0, "it lives");
    exits.has_ended(key.pid);
    assert_eq!(exits.due_by(Timestamp::now()).len(), 0, "it lives all the same");
    go(&mut child);
    let process = waited.unwrap();
    let mut waiting = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut waiting, None).unwrap(), 1);
    exits.has_ended(key.pid);
    let [exit] = exits.due_by(Timestamp::now()).try_into().unwrap();
    let start_ns = key.start.as_nanos();
    assert_eq!((exit.source, exit.pid, exit.start_ns), (Source::Proc, key.pid, start_ns));
    // The kernel shows its status only to a process that may trace it.
    assert!(matches!(exit.status.0, Some(0x0700) | None), "{:?}", exit.status);
    child.wait().unwrap();
    exits.watch(key, |_, _| true);
    let [exit] = exits.due_by(Timestamp::now()).try_into().unwrap();
    assert_eq!((exit.start_ns, exit.status.0), (start_ns, None), "it is gone already");
}

#[test]
fn a_process_without_a_descriptor_is_checked_every_second() {
    let reader = ProcReader::new("/").unwrap();
    let mut exits = Exits::new(reader.clone(), None, (true, true), u32::MAX);
    let mut child = shell("exit 7");
    let key = reader.key_of(child.id()).unwrap();
    // As when there are no descriptors left.
    exits.watch(key, |_, _| false);
    exits.every_second();
    assert_eq!(exits.due_by(Timestamp::now()).len(), 0, "it lives");
    go(&mut child);
    child.wait().unwrap();
    exits.every_second();
    assert_eq!(exits.due_by(Timestamp::now()).len(), 1);
}

#[test]
fn only_what_is_missing_is_reported() {
    let Some(_) = lab("only_what_is_missing_is_reported") else { return };
    let reader = ProcReader::new("/").unwrap();
    let connector = Connector::open().unwrap();
    let mut exits = Exits::new(reader.clone(), Some(connector), (false, true), u32::MAX);
    let mut child = shell("exec /bin/false");
    let key = reader.key_of(child.id()).unwrap();
    exits.watch(key, |_, _| true);
    go(&mut child);
    child.wait().unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + LONG;
    let executed = |it: &Record| matches!(it, Record::Exec(exec) if exec.pid == key.pid);
    while !seen.iter().any(executed) {
        assert!(Instant::now() < deadline, "its exec is not reported");
        exits.read(&mut seen);
    }
    exits.every_second();
    assert_eq!((exits.tracked(), exits.due_by(Timestamp::now()).len()), (0, 0));
}

#[test]
fn an_exec_is_reported() {
    let Some(mut lab) = lab("an_exec_is_reported") else { return };
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let id = child.id();
    lab.wait_for("an exec", |record| {
        matches!(record, Record::Exec(exec) if exec.pid == id && exec.image.is_none()).then_some(())
    });
    child.wait().unwrap();
}

#[test]
fn nothing_is_opened_where_nothing_is_missing() {
    let reader = ProcReader::new("/").unwrap();
    for missing in [&[][..], &[Hook::Signal, Hook::SocketReport]] {
        let fallback = FallbackSensor::open((missing, false), &reader, 0, Timestamp::now()).unwrap();
        assert!(fallback.exits.is_none() && fallback.kmsg.is_none() && fallback.scanner.is_none());
        assert_eq!(fallback.description_of(Hook::Signal).is_some(), !missing.is_empty());
        assert_eq!(fallback.description_of(Hook::SocketReport), None);
    }
}

#[test]
fn listeners_and_connections_of_a_service_are_found_by_a_scan() {
    let reader = ProcReader::new("/").unwrap();
    let me = reader.key_of(std::process::id()).unwrap();
    // This process is older than the scan: its present listeners are counted as the daemon starts.
    let began = Timestamp::now();
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scan = SocketScan::new(reader, began, Wanted { listeners: true, retransmits: true });
    let listens = |records: &[Record], port: u16| {
        let its = records.iter().filter_map(|it| if let Record::Listen(it) = it { Some(it) } else { None });
        its.filter(|it| it.port == port).map(|it| (it.up, it.pid, it.source)).collect::<Vec<_>>()
    };
    let first = scan.scan(vec![me]);
    assert_eq!(listens(&first, before.local_addr().unwrap().port()), []);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    // A listener that closes resets the connections it has not accepted.
    let accepted = listener.accept().unwrap();
    let second = scan.scan(vec![me]);
    assert_eq!(listens(&second, address.port()), [(true, me.pid, Source::Netlink)]);
    drop(listener);
    assert_eq!(listens(&scan.scan(vec![me]), address.port()), [], "it may be reopened at once");
    // A child that another test forks holds the listener until it executes its program.
    let mut scans = std::iter::repeat_with(|| listens(&scan.scan(vec![me]), address.port())).take(1000);
    assert_eq!(scans.find(|found| !found.is_empty()), Some(vec![(false, me.pid, Source::Netlink)]));
    drop(scans);
    // Connections are read in every fifth scan.
    let its = |record: &Record| matches!(record, Record::Connect(it) if it.remote == address);
    let connect = (0..5).flat_map(|_| scan.scan(vec![me])).find(its);
    assert!(
        matches!(connect, Some(Record::Connect(it)) if it.owner.pid == me.pid && it.source == Source::Proc)
    );
    drop((client, accepted));
}
