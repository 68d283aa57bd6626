//! What stands in, in the running kernel: arm, cause, see. Events are waited for, and told from the host's own by
//! process id.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::fact::ServiceId;

const LONG: Duration = Duration::from_secs(10);

struct Lab {
    stand_ins: StandIns,
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
    let stand_ins = StandIns::open(&Hook::ALL, &reader, u32::MAX).unwrap();
    Some(Lab { stand_ins, runtime: Builder::new_current_thread().enable_all().build().unwrap(), reader })
}

impl Lab {
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Sighting) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            self.stand_ins.drain(&mut seen);
            if let Some(found) = seen.drain(..).find_map(&mut pick) {
                return found;
            }
            let readable = async { tokio::time::timeout(LONG, self.stand_ins.readable()).await };
            let _ = self.runtime.block_on(readable);
        }
        panic!("never seen: {what}; losses: {:?}", self.stand_ins.losses());
    }

    fn death_of(&mut self, pid: u32) -> Death {
        self.wait_for("a death", |seen| match seen {
            Sighting::Death(death) => Some(death).filter(|death| death.pid == pid),
            Sighting::Exec { .. } | Sighting::Oom(_) => None,
        })
    }

    fn watch(&mut self, child: &Child) -> ProcessKey {
        let key = self.reader.key_of(child.id()).unwrap();
        self.stand_ins.watch_process(key);
        key
    }
}

/// A shell that does `after` once it is told to.
fn shell(after: &str) -> Child {
    let script = format!("read line; {after}");
    Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

#[test]
fn the_end_of_a_watched_process_is_told_with_its_status() {
    let Some(mut lab) = lab("the_end_of_a_watched_process_is_told_with_its_status") else { return };
    for (end, status) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("kill -KILL $$", ExitStatus::Signal { number: 9, core_dumped: false }),
    ] {
        let mut child = shell(end);
        let key = lab.watch(&child);
        go(&mut child);
        let death = lab.death_of(child.id());
        assert_eq!((death.status, death.source, death.key), (status, Source::Netlink, Some(key)), "{end}");
        assert_eq!(death.parent_pid, Some(std::process::id()));
        assert!(death.at > key.start && !death.oom);
        child.wait().unwrap();
    }
}

#[test]
fn a_descendant_s_failure_is_told_and_its_good_end_is_not() {
    let Some(mut lab) = lab("a_descendant_s_failure_is_told_and_its_good_end_is_not") else { return };
    // The subshell of a subshell executes nothing, so that only its fork has told of it.
    let mut child = shell("(exit 0); (read line </dev/null; exit 5); read line");
    let main = lab.watch(&child);
    go(&mut child);
    let told = lab.wait_for("the failure of a descendant", |seen| match seen {
        Sighting::Death(death) => Some(death).filter(|death| death.parent_pid == Some(main.pid)),
        Sighting::Exec { .. } | Sighting::Oom(_) => None,
    });
    assert_eq!(told.status, ExitStatus::Code(5));
    assert!(told.key.is_some_and(|key| key.start >= main.start));
    child.kill().unwrap();
    child.wait().unwrap();
    lab.death_of(main.pid);
    lab.stand_ins.unwatch_process(main.pid);
    let deadline = Instant::now() + LONG;
    while lab.stand_ins.deaths.as_ref().is_some_and(|deaths| deaths.known() > 0) {
        assert!(Instant::now() < deadline, "nobody who has ended is kept in mind");
        lab.stand_ins.drain(&mut Vec::new());
    }
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
    let death = lab.death_of(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(death.status, ExitStatus::Code(9));
}

#[test]
fn without_the_connector_a_process_that_is_gone_is_still_missed() {
    let reader = ProcReader::new("/").unwrap();
    let mut deaths = Deaths::new(reader.clone(), None, (true, true), u32::MAX);
    let mut child = shell("exit 7");
    let key = reader.key_of(child.id()).unwrap();
    let mut waited = None;
    deaths.watch(key, |_, process| {
        waited = process.try_clone_to_owned().ok();
        true
    });
    assert_eq!(deaths.told_by(Timestamp::now()).len(), 0, "it lives");
    deaths.has_ended(key.pid);
    assert_eq!(deaths.told_by(Timestamp::now()).len(), 0, "it lives all the same");
    go(&mut child);
    let process = waited.unwrap();
    let mut waiting = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut waiting, None).unwrap(), 1);
    deaths.has_ended(key.pid);
    let [death] = deaths.told_by(Timestamp::now()).try_into().unwrap();
    assert_eq!((death.source, death.key), (Source::Proc, Some(key)));
    // Its status is shown only to who may trace it.
    assert!(matches!(death.status, ExitStatus::Code(7) | ExitStatus::Unknown), "{:?}", death.status);
    child.wait().unwrap();
    deaths.watch(key, |_, _| true);
    let [death] = deaths.told_by(Timestamp::now()).try_into().unwrap();
    assert_eq!((death.key, death.status), (Some(key), ExitStatus::Unknown), "it is gone already");
}

#[test]
fn a_process_without_a_descriptor_is_looked_at_now_and_then() {
    let reader = ProcReader::new("/").unwrap();
    let mut deaths = Deaths::new(reader.clone(), None, (true, true), u32::MAX);
    let mut child = shell("exit 7");
    let key = reader.key_of(child.id()).unwrap();
    // As when there are no descriptors left.
    deaths.watch(key, |_, _| false);
    deaths.every_second();
    assert_eq!(deaths.told_by(Timestamp::now()).len(), 0, "it lives");
    go(&mut child);
    child.wait().unwrap();
    deaths.every_second();
    assert_eq!(deaths.told_by(Timestamp::now()).len(), 1);
}

#[test]
fn only_what_is_missing_is_told() {
    let Some(_) = lab("only_what_is_missing_is_told") else { return };
    let reader = ProcReader::new("/").unwrap();
    let connector = Connector::open().unwrap();
    let mut deaths = Deaths::new(reader.clone(), Some(connector), (false, true), u32::MAX);
    let mut child = shell("exec /bin/false");
    let key = reader.key_of(child.id()).unwrap();
    deaths.watch(key, |_, _| true);
    go(&mut child);
    child.wait().unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + LONG;
    let executed = |it: &Sighting| matches!(it, Sighting::Exec { pid, .. } if *pid == key.pid);
    while !seen.iter().any(executed) {
        assert!(Instant::now() < deadline, "its execution is told");
        deaths.hear(&mut seen);
    }
    deaths.every_second();
    assert_eq!((deaths.known(), deaths.told_by(Timestamp::now()).len()), (0, 0));
}

#[test]
fn an_execution_is_told() {
    let Some(mut lab) = lab("an_execution_is_told") else { return };
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let id = child.id();
    lab.wait_for("an execution", |seen| match seen {
        Sighting::Exec { pid, .. } => (pid == id).then_some(()),
        Sighting::Death(_) | Sighting::Oom(_) => None,
    });
    child.wait().unwrap();
}

#[test]
fn nothing_is_opened_where_nothing_is_missing() {
    let reader = ProcReader::new("/").unwrap();
    let stand_ins = StandIns::open(&[], &reader, 0).unwrap();
    assert!(stand_ins.deaths.is_none() && stand_ins.kmsg.is_none() && !stand_ins.wanted_of_sockets().any());
    assert_eq!(stand_ins.told(), []);
    let stand_ins = StandIns::open(&[Hook::Signal, Hook::SocketReport], &reader, 0).unwrap();
    assert!(stand_ins.deaths.is_none() && stand_ins.kmsg.is_none() && !stand_ins.wanted_of_sockets().any());
    assert!(stand_ins.told()[0].what.is_some() && stand_ins.told()[1].what.is_none());
}

#[test]
fn listeners_and_connections_of_a_service_are_found_by_looking() {
    let reader = ProcReader::new("/").unwrap();
    let me = reader.key_of(std::process::id()).unwrap();
    let mains = || vec![(ServiceId(3), me)];
    // This process is older than the look: what it has already is counted by others.
    let began = Timestamp::now();
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut look = sockets::Look::new(reader, began, sockets::Wanted { listeners: true, retransmits: true });
    let told = |changes: &sockets::Changes, port: u16| {
        let its = changes.listeners.iter().filter(|it| it.port == port);
        its.map(|it| (it.up, it.pid, it.source)).collect::<Vec<_>>()
    };
    let first = look.look(mains());
    assert_eq!(told(&first, before.local_addr().unwrap().port()), []);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    // A listener that closes resets the connections it has not accepted.
    let accepted = listener.accept().unwrap();
    let second = look.look(mains());
    assert_eq!(told(&second, address.port()), [(true, me.pid, Source::Netlink)]);
    drop(listener);
    assert_eq!(told(&look.look(mains()), address.port()), [], "it may be opened anew at once");
    assert_eq!(told(&look.look(mains()), address.port()), [(false, me.pid, Source::Netlink)]);
    // Once in so many looks, connections are looked at.
    let mut connected = (0..5).flat_map(|_| look.look(mains()).connections);
    assert!(connected.any(|(service, to)| service == ServiceId(3) && to.remotes.contains(&address)));
    drop((client, accepted));
}
