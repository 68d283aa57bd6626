//! Real processes that are stopped for a moment.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use super::*;

struct Running(Child);

impl Running {
    /// A shell that has said that it runs.
    fn shell(script: &str) -> Self {
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    fn until_state(&self, state: char) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.status("State").starts_with(state) {
            assert!(Instant::now() < end, "{}", self.status("State"));
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Traces on a thread of its own, as the daemon does.
fn trace_once(tid: i32) -> (Vec<Registers>, Vec<io::Error>) {
    let work = move || {
        let mut found = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        let refused = trace(&[tid], end, |_, registers| found.push(registers));
        (found, refused.into_iter().map(|(_, error)| error).collect())
    };
    thread::spawn(work).join().unwrap()
}

#[test]
fn a_sleeping_and_a_busy_thread_are_read_and_go_on() {
    for script in ["echo; exec sleep 1000", "echo; while :; do :; done"] {
        let process = Running::shell(script);
        let (found, refused) = trace_once(process.pid());
        assert!(refused.is_empty() && found.len() == 1, "{refused:?}");
        assert!(found[0].program_counter != 0 && found[0].stack_pointer != 0, "{found:?}");
        assert_eq!(process.status("TracerPid"), "0");
        assert!(!process.status("State").starts_with('t'));
    }
}

#[test]
fn a_process_that_a_signal_has_stopped_stays_stopped() {
    let process = Running::shell("echo; exec sleep 1000");
    // SAFETY: takes two numbers.
    unsafe { libc::kill(process.pid(), libc::SIGSTOP) };
    process.until_state('T');
    let (found, _) = trace_once(process.pid());
    assert_eq!(found.len(), 1);
    process.until_state('T');
    assert_eq!(process.status("TracerPid"), "0");
    // SAFETY: as above.
    unsafe { libc::kill(process.pid(), libc::SIGCONT) };
    process.until_state('S');
}

#[test]
fn signals_that_come_meanwhile_are_delivered() {
    let script = "count=0; trap 'count=$((count+1)); echo $count' USR1; echo; while :; do :; done";
    let mut process = Running::shell(script);
    let pid = process.pid();
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    for sent in 1..=50 {
        let tracing = thread::spawn(move || trace_once(pid));
        // SAFETY: takes two numbers.
        unsafe { libc::kill(pid, libc::SIGUSR1) };
        assert_eq!(lines.next().unwrap().unwrap(), sent.to_string());
        tracing.join().unwrap();
    }
    assert_eq!(process.status("TracerPid"), "0");
}

#[test]
fn what_another_thread_traces_is_refused_and_what_is_gone_as_well() {
    let process = Running::shell("echo; exec sleep 1000");
    let tid = process.pid();
    let refused = thread::spawn(move || {
        seize(tid).unwrap();
        // A thread that has this one's tracee cannot get it.
        trace_once(tid).1
    });
    let refused = refused.join().unwrap();
    assert_eq!(refused.first().and_then(io::Error::raw_os_error), Some(libc::EPERM), "{refused:?}");
    // The thread that had it has ended.
    assert_eq!(process.status("TracerPid"), "0");
    drop(process);
    assert_eq!(trace_once(tid).1.first().and_then(io::Error::raw_os_error), Some(libc::ESRCH));
}

#[test]
fn the_end_of_a_child_that_is_traced_is_left_to_its_parent() {
    for _ in 0..20 {
        let mut process = Running::shell("echo; exec sleep 1000");
        let pid = process.pid();
        let tracing = thread::spawn(move || trace_once(pid));
        process.0.kill().unwrap();
        tracing.join().unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        let status = process.0.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}
