//! Processes that are stopped.

use super::*;

#[test]
fn a_stopped_process_names_who_stopped_it() {
    let Some(mut lab) = lab("a_stopped_process_names_who_stopped_it") else { return };
    let mut child = shell("exit 0");
    let pid = rustix::process::Pid::from_child(&child);
    lab.kernel.watch_process(child.id(), 1).unwrap();
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::TSTP] {
        rustix::process::kill_process(pid, signal).unwrap();
        let stop = lab.wait_for("stop", |record| {
            if let Record::Stop(stop) = record { Some(stop).filter(|it| it.pid == child.id()) } else { None }
        });
        let sender = stop.signal.sender.unwrap();
        assert_eq!((stop.signal.number, sender.pid), (signal.as_raw().cast_unsigned(), std::process::id()));
        assert!(stop.start_ns > 0 && stop.start_ns < stop.at_ns && sender.start_ns > 0);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    }
    // The stop has not hidden how it ends.
    child.kill().unwrap();
    let exit = lab.wait_for("exit", exit_of(child.id()));
    assert_eq!(exit.signal.unwrap().number, 9);
    child.wait().unwrap();
}

#[test]
fn the_stop_of_a_stranger_is_not_told() {
    let Some(mut lab) = lab("the_stop_of_a_stranger_is_not_told") else { return };
    let (mut stranger, mut watched) = (shell("exit 0"), shell("exit 0"));
    lab.kernel.watch_process(watched.id(), 1).unwrap();
    for child in [&stranger, &watched] {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    let first = lab.wait_for("stop", |record| {
        if let Record::Stop(stop) = record {
            Some(stop.pid).filter(|it| [stranger.id(), watched.id()].contains(it))
        } else {
            None
        }
    });
    assert_eq!(first, watched.id());
    for child in [&mut stranger, &mut watched] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
