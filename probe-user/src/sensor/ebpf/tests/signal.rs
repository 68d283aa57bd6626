//! Stops of processes, and signals that dump core.

use super::*;

#[test]
fn a_stop_names_its_sender() {
    let Some(mut fixture) = fixture("a_stop_names_its_sender") else { return };
    let mut child = shell("exit 0");
    let pid = rustix::process::Pid::from_child(&child);
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::TSTP] {
        rustix::process::kill_process(pid, signal).unwrap();
        let stop = fixture.wait_for("stop", |record| {
            if let Record::Stop(stop) = record { Some(stop).filter(|it| it.pid == child.id()) } else { None }
        });
        let sender = stop.signal.sender.unwrap();
        assert_eq!((stop.signal.number, sender.pid), (signal.as_raw().cast_unsigned(), std::process::id()));
        assert!(stop.start_ns > 0 && stop.start_ns < stop.at_ns && sender.start_ns > 0);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    }
    // The stop does not hide the signal of the exit.
    child.kill().unwrap();
    let exit = fixture.wait_for("exit", exit_of(child.id()));
    assert_eq!(exit.signal.unwrap().number, 9);
    child.wait().unwrap();
}

#[test]
fn the_stop_of_an_unwatched_process_is_not_reported() {
    let Some(mut fixture) = fixture("the_stop_of_an_unwatched_process_is_not_reported") else { return };
    let (mut unwatched, mut watched) = (shell("exit 0"), shell("exit 0"));
    fixture.sensor.watch_process(watched.id(), 1).unwrap();
    for child in [&unwatched, &watched] {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    let first = fixture.wait_for("stop", |record| {
        if let Record::Stop(stop) = record {
            Some(stop.pid).filter(|it| [unwatched.id(), watched.id()].contains(it))
        } else {
            None
        }
    });
    assert_eq!(first, watched.id());
    for child in [&mut unwatched, &mut watched] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_signal_that_dumps_core_is_reported_before_the_exit_unless_the_process_handles_it() {
    let test = "a_signal_that_dumps_core_is_reported_before_the_exit_unless_the_process_handles_it";
    let Some(mut fixture) = fixture(test) else { return };
    let mut child = shell("trap : SEGV; kill -SEGV $$; ulimit -c 0; kill -ABRT $$");
    let pid = child.id();
    fixture.sensor.watch_process(pid, 1).unwrap();
    drop(child.stdin.take());
    let received = fixture.wait_for("core signal", |record| {
        if let Record::Exit(exit) = &record {
            assert_ne!(exit.pid, pid, "the exit comes later");
        }
        if let Record::CoreSignal(received, _) = record {
            Some(received).filter(|it| it.pid == pid)
        } else {
            None
        }
    });
    let sender = received.signal.sender.as_ref().unwrap();
    assert_eq!((received.signal.number, sender.pid), (6, pid), "the first one is handled");
    let exit = fixture.wait_for("exit", exit_of(pid));
    assert_eq!((exit.start_ns, exit.signal), (received.start_ns, Some(received.signal)));
    child.wait().unwrap();
}

#[test]
fn only_a_watched_process_that_ends_itself_has_a_stack() {
    let Some(mut fixture) = fixture("only_a_watched_process_that_ends_itself_has_a_stack") else { return };
    let fatal = "ulimit -c 0; kill -SEGV $$";
    let (mut unwatched, mut watched, mut killed) = (shell(fatal), shell(fatal), shell("exit 0"));
    for child in [&watched, &killed] {
        fixture.sensor.watch_process(child.id(), 1).unwrap();
    }
    drop(unwatched.stdin.take());
    unwatched.wait().unwrap();
    let victim = rustix::process::Pid::from_child(&killed);
    rustix::process::kill_process(victim, rustix::process::Signal::SEGV).unwrap();
    drop(watched.stdin.take());
    let mut found = Vec::new();
    while found.len() < 2 {
        found.push(fixture.wait_for("core signal", |record| {
            if let Record::CoreSignal(received, stack) = record { Some((received.pid, stack)) } else { None }
        }));
    }
    let stack_of = |pid| found.iter().find(|(of, _)| *of == pid).map(|(_, stack)| stack.as_ref());
    assert_eq!(stack_of(killed.id()), Some(None), "another process sent it");
    let stack = stack_of(watched.id()).unwrap().unwrap();
    assert!(!stack.frames.is_empty() && stack.thread_name == "sh", "{stack:?}");
    assert!(found.iter().all(|(pid, _)| *pid != unwatched.id()), "{found:?}");
    for child in [&mut watched, &mut killed] {
        child.wait().unwrap();
    }
}
