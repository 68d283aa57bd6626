//! A child process whose output is read as it comes, so that tests wait for a line instead of for a while.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Longest wait for a process to end or to stop after the request.
const END: Duration = Duration::from_secs(20);

/// Longest wait for the output of a process that has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two looks at what does not tell when it changes.
const LOOK: Duration = Duration::from_millis(5);

/// A stream of lines that a thread fills and tests wait on.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// When each was read.
    read: Vec<SystemTime>,
    /// No more lines will come.
    closed: bool,
}

impl Lines {
    /// Reads a stream to its end on a thread of its own.
    fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let filled = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let read = SystemTime::now();
                let mut state = filled.state();
                state.lines.push(String::from_utf8_lossy(&line).into_owned());
                state.read.push(read);
                drop(state);
                filled.shared.1.notify_all();
            }
            filled.close();
        });
        lines
    }

    fn close(&self) {
        self.state().closed = true;
        self.shared.1.notify_all();
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// Waits until `look` finds what it wants; None when the time is over or the stream has ended first.
    ///
    /// `look` is given the lines it has not seen yet.
    pub fn wait_for<T>(&self, within: Duration, mut look: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let until = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state.lines[seen..]) {
                return Some(found);
            }
            seen = state.lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// When a line was read, by its place in the stream; None if it has not been.
    pub fn read_at(&self, line: usize) -> Option<SystemTime> {
        self.state().read.get(line).copied()
    }

    /// Waits for the first line after so many that is such: its place in the stream. None when the time is over or the
    /// stream has ended first.
    pub fn position(&self, after: usize, within: Duration, such: impl Fn(&str) -> bool) -> Option<usize> {
        let mut passed = 0;
        self.wait_for(within, |fresh| {
            let skipped = after.saturating_sub(passed).min(fresh.len());
            let found = fresh[skipped..].iter().position(|line| such(line));
            let at = found.map(|at| passed + skipped + at);
            passed += fresh.len();
            at
        })
    }

    /// Waits for the end of the stream; false when the time is over.
    pub fn wait_for_end(&self, within: Duration) -> bool {
        self.wait_for(within, |_| None::<()>);
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running child, ended when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    end: Signal,
    /// Holds no lines; it is closed when the process has ended. Its output may outlive it in the hands of its
    /// own children, and so cannot tell.
    life: Lines,
    /// Its standard output.
    pub stdout: Lines,
    /// Its standard error.
    pub stderr: Lines,
}

impl Running {
    /// Starts a command; `end` is the signal that makes it leave nothing behind.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, end: Signal) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = child.stdout.take().map(Lines::read).unwrap_or_default();
        let stderr = child.stderr.take().map(Lines::read).unwrap_or_default();
        let life = Lines::default();
        if let Some(pid) = process_id(child.id()) {
            let life = life.clone();
            thread::spawn(move || {
                // Its status is left for the owner to collect, so the pid stays its own until then.
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
                life.close();
            });
        }
        Self { child, end, life, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this text on either stream of output.
    ///
    /// # Panics
    /// If it does not come in time, with what came instead.
    #[track_caller]
    pub fn wait_until_it_says(&self, text: &str, lines: &Lines, within: Duration) {
        let said = |lines: &[String]| lines.iter().any(|line| line.contains(text)).then_some(());
        if lines.wait_for(within, said).is_none() {
            let (stdout, stderr) = (self.stdout.all().join("\n"), self.stderr.all().join("\n"));
            panic!("pid {} did not say {text:?} within {within:?}\n{stdout}\n{stderr}", self.pid());
        }
    }

    /// Sends a signal, if the process is not gone already.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = process_id(self.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        assert!(self.life.wait_for_end(within), "pid {} is still running after {within:?}", self.pid());
        // What it said last is still on its way.
        self.stdout.wait_for_end(LAST_WORDS);
        self.stderr.wait_for_end(LAST_WORDS);
        self.child.wait().expect("a child can be waited for")
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Panics
    /// If it has not after a while.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(self.end);
        self.wait(END)
    }

    /// Tells it to end if it runs, waits until it has, and makes it if it does not.
    pub(crate) fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(self.end);
            if !self.life.wait_for_end(END) {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
        self.stdout.wait_for_end(LAST_WORDS);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks again and again until there is something to see, where nothing tells when.
///
/// # Panics
/// If there is nothing for too long.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        thread::park_timeout(LOOK);
    }
}

/// Sends SIGKILL to a process that runs.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn kill(pid: u32) {
    kill_process(process_id(pid).expect("a pid"), Signal::KILL).expect("it lives");
}

/// The pids of all processes that were started with such an argument.
///
/// # Panics
/// If `/proc` cannot be read.
pub fn with_argument(argument: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc can be read").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_it = |pid: &u32| {
        // One that has ended meanwhile has no arguments.
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|&byte| byte == 0).any(|given| given == argument.as_bytes())
    };
    pids.filter(has_it).collect()
}

/// The children of a process, of all its threads; none if it has ended.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let children: Vec<String> = children.filter_map(Result::ok).collect();
    children.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process runs: it is there, and no zombie.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Stops a process, and waits until all its threads stand still.
///
/// # Panics
/// If it does not live.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let is_stopped = || {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
        threads.all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    };
    until("all its threads are stopped", END, || is_stopped().then_some(()));
}

/// The pid that a file holds.
pub fn pid_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

/// The greatest resident size that a process has had so far, in bytes.
///
/// # Panics
/// If it does not run.
pub fn peak_resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The CPU time of a process with all its threads, also of those that have ended, ns.
pub fn cpu_time(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: the clock outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn process_id(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Sends a signal to a process.
///
/// # Panics
/// If the process does not exist.
#[track_caller]
pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("it lives");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("/bin/sh").args(["-c", script]), Signal::KILL)
    }

    #[test]
    fn lines_and_the_exit_are_awaited() {
        let mut process = shell("echo one; echo two >&2; read never < /dev/null; exit 3");
        process.wait_until_it_says("one", &process.stdout, END);
        assert_eq!(process.wait(END).code(), Some(3));
        assert_eq!((process.stdout.all(), process.stderr.all()), (vec!["one".into()], vec!["two".into()]));
    }

    #[test]
    fn a_child_that_keeps_the_output_open_does_not_hide_the_exit() {
        let mut parent = shell("tail -f /dev/null & echo $!; exit 4");
        assert_eq!(parent.wait(END).code(), Some(4));
        assert!(with_argument("hostprobe-has-no-such-argument").is_empty());
        let pid = parent.stdout.all()[0].parse().expect("the child's pid");
        if let Some(pid) = process_id(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// What `ptrace` takes: the C libraries declare its first argument differently.
#[cfg(target_env = "musl")]
type TraceRequest = libc::c_int;
#[cfg(not(target_env = "musl"))]
type TraceRequest = libc::c_uint;

/// A process that the current thread traces and keeps stopped, as a debugger does, until it is dropped.
#[derive(Debug)]
pub struct Traced(libc::pid_t);

impl Traced {
    /// Attaches to all threads of a process and stops them.
    ///
    /// # Panics
    /// If the process cannot be traced.
    pub fn stop(pid: u32) -> Self {
        let traced = Self(pid.cast_signed());
        traced.of_each_thread(libc::PTRACE_SEIZE);
        traced.of_each_thread(libc::PTRACE_INTERRUPT);
        traced
    }

    fn of_each_thread(&self, request: TraceRequest) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0)).expect("it lives");
        let threads = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse::<i32>().ok());
        for thread in threads {
            // SAFETY: none of these requests reads or writes memory of this process.
            let done = unsafe { libc::ptrace(request, thread, 0, 0) };
            let error = std::io::Error::last_os_error();
            // A thread may have ended meanwhile.
            let is_gone = error.raw_os_error() == Some(libc::ESRCH);
            assert!(done == 0 || is_gone, "thread {thread} can be traced: {error}");
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.of_each_thread(libc::PTRACE_DETACH);
        }
    }
}
