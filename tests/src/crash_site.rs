//! Programs that crash when they get SIGUSR1, built from source, and what the daemon says of each.

pub mod build;

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    daemon::{Daemon, field},
    incident_events::{is, text},
    process::until,
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(120);

/// A program that crashes, and what is to be said of it.
#[derive(Debug)]
pub struct Case {
    /// The program and how it crashes, for the table.
    pub title: &'static str,
    /// Also the name of its service.
    pub name: &'static str,
    pub command: Vec<String>,
    /// `incident.crash.summary`, with `…` for the digits of offsets.
    pub said: &'static str,
    /// `incident.crash.line`; what follows `…` is left open.
    pub line: Option<&'static str>,
    /// The functions of the stack as far as they are asserted, the innermost first; those without a name are left out.
    pub stack: &'static [&'static str],
    /// What is done once it waits for its signal, with its pid.
    pub meanwhile: fn(u32),
}

impl Case {
    pub fn new(title: &'static str, name: &'static str, command: &[&str], said: &'static str) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self { title, name, command, said, line: None, stack: &[], meanwhile: |_| () }
    }

    /// Its service, in a configuration. It writes no core dump, so the process is gone at once.
    pub fn service(&self) -> String {
        format!(
            "[[service]]\nname = {:?}\nexec = {:?}\nrlimits = {{ core = 0 }}\nenvironment = {{ GOTRACEBACK = \"crash\", \
             CRASH_CASE = {:?} }}\n[service.restart]\nenabled = false\n",
            self.name, self.command, self.name
        )
    }

    /// Crashes it, and returns `incident.crash` once it has its names.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn crash(&self, daemon: &Daemon, pid: u32) -> Value {
        let mark = daemon.mark();
        signal(pid);
        // The first update may come before its names, on a busy machine.
        let has_names = |event: &Value| {
            let module = field(event, "incident.crash.module");
            is(event, "incident.update", self.name) && module.is_some()
        };
        let update = daemon.wait_for_after(mark, has_names, LONG);
        let exit = daemon.wait_for_after(mark, |event| is(event, "process.exit", self.name), LONG);
        assert!(field(&exit, "process.crash.instruction").is_some(), "{exit:#}");
        field(&update, "incident.crash").expect("it has").clone()
    }

    /// Asserts that what was said is what is to be said.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn assert(&self, crash: &Value) {
        assert_eq!(masked(text(crash, "summary")), self.said, "{}: {crash:#}", self.title);
        let in_c_library = self.said.contains(" libc.so.6+");
        let line = crash.get("line").and_then(Value::as_str).filter(|_| !in_c_library);
        let has_line = match self.line.and_then(|expected| expected.strip_suffix('…')) {
            Some(prefix) => line.is_some_and(|line| line.starts_with(prefix)),
            None => line == self.line,
        };
        assert!(has_line, "{}: {crash:#}", self.title);
        let functions: Vec<_> = functions(crash).collect();
        let begins = functions.iter().zip(self.stack).all(|(found, expected)| found == expected);
        assert!(begins && functions.len() >= self.stack.len(), "{}: {crash:#}", self.title);
    }

    /// Its row in the table of the documentation.
    pub fn row(&self) -> String {
        let stack = if self.stack.is_empty() { "–".to_owned() } else { self.stack.join(", ") };
        format!("| {} | {} | {} | {stack} |", self.title, self.said, self.line.unwrap_or("–"))
    }
}

/// Waits until the program of each case waits for its signal, and until the daemon has read its map then. Returns the pids.
///
/// # Panics
/// If a program does not start, or its map is not read.
#[track_caller]
pub fn prepare(daemon: &Daemon, cases: &[Case]) -> Vec<u32> {
    let pids: Vec<_> = cases.iter().map(|case| until("it waits", LONG, || waiting(case.name))).collect();
    for (case, pid) in cases.iter().zip(&pids) {
        (case.meanwhile)(*pid);
    }
    let readings = |pid: &u32| {
        let line = format!("crash site: read the map of pid {pid}");
        daemon.log().lines().filter(|it| it.ends_with(&line)).count()
    };
    // A map is read when its process is young: all of them within the same minute.
    let before: Vec<_> = pids.iter().map(readings).collect();
    for (pid, before) in pids.iter().zip(before) {
        until("its map is read", LONG, || (readings(pid) > before).then_some(()));
    }
    pids
}

/// Has a process crash.
///
/// # Panics
/// If it is not there.
pub fn signal(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, Signal::USR1).expect("it lives");
}

/// The process of a case that waits for its signal: it is in the system call, or has made the file `CRASH_READY`.
pub fn waiting(name: &str) -> Option<u32> {
    let mark = format!("CRASH_CASE={name}");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let folder = Path::new("/proc").join(pid.to_string());
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let is_its = environment.split(|it| *it == 0).any(|variable| variable == mark.as_bytes());
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let ready = environment.split('\0').find_map(|variable| variable.strip_prefix("CRASH_READY="));
        // `rt_sigtimedwait`.
        let call = || fs::read_to_string(folder.join("syscall")).unwrap_or_default();
        is_its && ready.map_or_else(|| call().starts_with("128 "), |file| Path::new(file).exists())
    })
}

/// The C library has names where its debug information is installed.
const C_LIBRARY: &str = " (libc.so.6+0x";

/// The names of functions in a stack, but for those of the C library.
fn functions(crash: &Value) -> impl Iterator<Item = &str> {
    let stack = crash.get("stack").and_then(Value::as_array).into_iter().flatten();
    let frames = stack.filter_map(Value::as_str).filter(|frame| !frame.contains(C_LIBRARY));
    frames.filter_map(|frame| Some(frame.rsplit_once(" (")?.0))
}

/// What was said without what depends on the compiler and on what is installed: offsets, and names in the C library.
fn masked(summary: &str) -> String {
    let mut parts = summary.split("+0x");
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|it: char| it.is_ascii_hexdigit());
        format!("{text}+0x…{rest}")
    });
    let text = match text
        .split_once(".cpython-")
        .and_then(|(before, after)| Some((before, after.split_once(".so")?.1)))
    {
        Some((before, after)) => format!("{before}….so{after}"),
        None => text,
    };
    match text.split_once(C_LIBRARY) {
        Some((before, after)) => {
            let verb = before.rsplit_once(' ').map_or("", |(verb, _)| verb);
            format!("{verb} libc.so.6+0x{}", after.replacen(')', "", 1))
        }
        None => text,
    }
}
