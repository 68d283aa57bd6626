//! Snapshots of a real process and of a fake host.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{draft::TEXT_MAX, *};
use crate::{fact::ProcessKey, host::fake::FakeHost};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn subject(main: ProcessKey) -> Subject {
    Subject { service: "api".to_owned(), main, last_exits: vec!["pid 7 ended with exit code 3".to_owned()] }
}

#[test]
fn a_snapshot_shows_threads_descriptors_and_sockets_and_no_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut shell = Command::new("/bin/sh");
    // The child has the listener as its standard input; It reports that it runs, and then stops until the test kills it.
    shell.args(["-c", "echo ready; kill -STOP $$", "sh", "--password", "hunter2"]);
    shell.env("SECRET_OF_THE_ENVIRONMENT", "swordfish");
    shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stdout(Stdio::piped());
    let mut child = Running(shell.spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let reader = ProcReader::new("/").unwrap();
    let main = reader.key_of(child.0.id()).unwrap();

    let draft = Draft::default();
    let began = Instant::now();
    reader.snapshot(&subject(main), &draft);
    let took = began.elapsed();
    let text = draft.take();
    for expected in [
        "Snapshot of api at ".to_owned(),
        "pid 7 ended with exit code 3".to_owned(),
        format!("process {0} thread {0} (sh) state ", main.pid),
        format!("tcp listen {address} waiting 0 backlog "),
        "    0 socket:[".to_owned(),
        "Max open files".to_owned(),
        "--password ***".to_owned(),
        "== cgroup ==".to_owned(),
        "End of the snapshot.".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected:?} is not in:\n{text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn an_early_snapshot_lists_the_missing_sections() {
    let draft = Draft::default();
    draft.line("Snapshot of api");
    draft.begin(vec!["sockets", "cgroup", "limits"]);
    draft.begin_section("sockets");
    let text = draft.take();
    assert!(text.starts_with("Snapshot of api\n"), "{text}");
    assert!(text.contains("Time was up while \"sockets\" was read"), "{text}");
    assert!(text.contains("Missing or incomplete: sockets, cgroup, limits."), "{text}");
    assert!(!draft.line("too late"));
    assert!(!draft.take().contains("too late"));
}

#[test]
fn a_snapshot_shows_the_counters_of_both_cgroup_versions() {
    let host = FakeHost::hybrid();
    host.process(10, 1, "db", "/db");
    host.thread(10, 10, "d\x1b[2Jb", 'D', (0, 0));
    host.write("proc/10/task/10/wchan", b"folio_wait_bit");
    host.cgroup_file(10, "4:memory:/m\n0::/db.service\n");
    host.write("sys/fs/cgroup/memory/m/memory.usage_in_bytes", b"4096\n");
    host.write("sys/fs/cgroup/unified/db.service/memory.events", b"low 0\noom_kill 2\n");
    host.write("proc/net/netstat", b"TcpExt: A ListenOverflows B\nTcpExt: 1 77 3\nIpExt: X\nIpExt: 1\n");
    let reader = host.reader();
    let draft = Draft::default();
    reader.snapshot(&subject(reader.key_of(10).unwrap()), &draft);
    let text = draft.take();
    for expected in [
        "thread 10 (d\\u{1b}[2Jb) state D wchan folio_wait_bit",
        "memory.usage_in_bytes: 4096\n",
        "memory.events:\n    low 0\n    oom_kill 2\n",
        "ListenOverflows since the host's start: 77\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[test]
fn a_snapshot_has_a_largest_size() {
    let draft = Draft::default();
    let line = "x".repeat(1 << 20);
    let taken = (0..10).take_while(|_| draft.line(&line)).count();
    assert_eq!(taken, 3);
    let text = draft.take();
    assert!(text.len() <= TEXT_MAX + 1024);
    assert!(text.ends_with("some of it was left out.\n"));
}
