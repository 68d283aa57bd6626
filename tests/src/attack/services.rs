//! What a service of the configuration can do to the other ones: its own events are never unwatched.

use std::{any::Any, time::Duration};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use super::plan::{LONG, Plan, Repeated};
use crate::process::{until, with_argument};

fn service(name: &str, command: &[&str]) -> String {
    format!("[[service]]\nname = {name:?}\nexec = {command:?}\noutput = \"/dev/null\"\n")
}

/// Its children die as fast as it can make them.
pub(super) fn workers() -> Plan {
    let dying = "while :; do (kill -SEGV $(exec sh -c 'echo $PPID')); done";
    let script = format!("({dying}) & {dying}");
    Plan { config: service("workers", &["/bin/sh", "-c", &script]), ..Plan::default() }
}

/// Its listeners come and go.
pub(super) fn listeners() -> Plan {
    // A socket without a port gets one when it listens.
    let script = "use Socket; while (1) { socket(S, PF_INET, SOCK_STREAM, 0); listen(S, 1); close S }";
    Plan { config: service("listening", &["/usr/bin/perl", "-e", script]), ..Plan::default() }
}

/// It is stopped and continued.
pub(super) fn stops() -> Plan {
    // An argument that no other process has.
    let seconds = format!("{}.25", 100_000 + std::process::id());
    let config = service("stopped", &["/bin/sleep", &seconds]);
    let begin = move |_: &crate::daemon::Daemon| -> Result<Vec<Box<dyn Any>>> {
        let pid = until("the service runs", LONG, || with_argument(&seconds).into_iter().next());
        let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
        let mut stop = false;
        Ok(vec![Box::new(Repeated::start(move || {
            stop = !stop;
            if kill_process(pid, if stop { Signal::STOP } else { Signal::CONT }).is_err() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }))])
    };
    Plan { config, ..Plan::begin(begin) }
}
