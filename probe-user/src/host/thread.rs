//! Threads and their present state.

use std::{fs, path::PathBuf, time::Duration};

use super::{ProcReader, read_text};
use crate::clock::Timestamp;

/// The files of a thread are far smaller; its stack may have 64 frames.
const TEXT_MAX: u64 = 16 * 1024;

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    /// Its state, as the letter `/proc` shows: `R` runs, `S` sleeps, `D` sleeps and cannot be interrupted,
    /// `T` is stopped, `t` is held by a debugger, `Z` is dead.
    pub state: char,
    /// When it was started, in nanoseconds since boot.
    pub start_nanos: u64,
    /// Processor time it used, in the kernel's ticks of mostly 10 ms.
    pub ticks: Duration,
    /// The same in nanoseconds; zero if the kernel does not count it (`CONFIG_SCHED_INFO`).
    pub run: Duration,
    /// Time it was ready to run and had no CPU.
    pub run_delay: Duration,
    /// Context switches, voluntary or not.
    pub switches: u64,
}

/// What a sleeping thread waits for, as far as it tells whether anything outside of its process can wake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A lock, a condition or the end of a thread, without a time limit. Only its own process can wake it.
    Lock,
    /// A new connection.
    Connection,
    /// Events of its connections, as an event loop does.
    Events,
    Other,
}

impl Thread {
    /// CPU time since an earlier sample, as exactly as the kernel counts it.
    pub fn cpu_since(&self, earlier: Option<&Self>) -> Duration {
        let (run, ticks) = earlier.map_or_else(Default::default, |earlier| (earlier.run, earlier.ticks));
        if self.run.is_zero() { self.ticks.saturating_sub(ticks) } else { self.run.saturating_sub(run) }
    }
}

impl ProcReader {
    /// The threads of a process, at most `limit` of them, and their full number.
    pub fn threads(&self, pid: u32, limit: usize) -> (Vec<Thread>, usize) {
        let Ok(entries) = fs::read_dir(self.folder(pid).join("task")) else { return Default::default() };
        let mut tids: Vec<u32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        // The first thread, which stands for the process, comes first.
        tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
        let all = tids.len();
        (tids.into_iter().take(limit).filter_map(|tid| self.thread(pid, tid)).collect(), all)
    }

    /// The kernel function that a thread waits in. None if it runs, or if the kernel hides it from this process.
    pub fn wait_channel(&self, pid: u32, tid: u32) -> Option<String> {
        let name = self.task_text(pid, tid, "wchan")?;
        (!name.is_empty() && name != "0").then_some(name)
    }

    /// What a sleeping thread waits for.
    pub fn wait(&self, pid: u32, tid: u32) -> Wait {
        self.task_text(pid, tid, "syscall").map_or(Wait::Other, |text| wait_of(&text))
    }

    /// Whether the kernel can wake a process by a signal whose handler could release a lock: the process has a timer
    /// (`timer_create(2)`), or it handles what `setitimer(2)` and descriptors send. The kernel does not show the latter.
    pub fn is_woken_by_signals(&self, pid: u32) -> bool {
        const SENT: u64 = 1 << (libc::SIGALRM - 1) | 1 << (libc::SIGIO - 1);
        let text = |file| read_text(&self.folder(pid).join(file), TEXT_MAX).unwrap_or_default();
        let status = text("status");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let handled = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        handled.is_some_and(|handled| handled & SENT != 0) || !text("timers").is_empty()
    }

    /// A file of a thread, without the space at its end.
    pub(crate) fn task_text(&self, pid: u32, tid: u32, file: &str) -> Option<String> {
        read_text(&self.task(pid, tid).join(file), TEXT_MAX).ok().map(|text| text.trim_end().to_owned())
    }

    fn thread(&self, pid: u32, tid: u32) -> Option<Thread> {
        let stat = self.task_text(pid, tid, "stat")?;
        // The name may hold anything, parentheses included.
        let (name, rest) = (stat.split_once('(')?.1).rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let tick = self.tick_nanos();
        let schedstat = self.task_text(pid, tid, "schedstat").unwrap_or_default();
        let mut spans = schedstat
            .split_ascii_whitespace()
            .map(|field| Duration::from_nanos(field.parse().unwrap_or_default()));
        let status = self.task_text(pid, tid, "status").unwrap_or_default();
        let switches = |line: &str| line.split_once("_ctxt_switches:")?.1.trim().parse::<u64>().ok();
        Some(Thread {
            pid,
            tid,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            start_nanos: Timestamp::from_proc_nanos(number(19)?.saturating_mul(tick)).as_nanos(),
            ticks: Duration::from_nanos(number(11)?.saturating_add(number(12)?).saturating_mul(tick)),
            run: spans.next().unwrap_or_default(),
            run_delay: spans.next().unwrap_or_default(),
            switches: status.lines().filter_map(switches).fold(0, u64::saturating_add),
        })
    }

    fn task(&self, pid: u32, tid: u32) -> PathBuf {
        self.folder(pid).join("task").join(tid.to_string())
    }
}

/// Reads `/proc/PID/task/TID/syscall`: the number of the system call, and its arguments in hexadecimal.
fn wait_of(text: &str) -> Wait {
    let mut fields = text.split_ascii_whitespace();
    let number = fields.next().and_then(|field| field.parse::<i64>().ok());
    let arguments: Vec<u64> =
        fields.map_while(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok()).collect();
    match (number, &arguments[..]) {
        (Some(libc::SYS_futex), [_, operation, _, timeout, ..]) => {
            let operation = *operation as i32;
            let command = operation & libc::FUTEX_CMD_MASK;
            let waits = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET, libc::FUTEX_LOCK_PI].contains(&command);
            // Another process can wake a thread through memory that they share.
            let is_private = operation & libc::FUTEX_PRIVATE_FLAG != 0;
            if waits && is_private && *timeout == 0 { Wait::Lock } else { Wait::Other }
        }
        (Some(libc::SYS_accept | libc::SYS_accept4), _) => Wait::Connection,
        (Some(libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 | libc::SYS_ppoll | libc::SYS_pselect6), _) => {
            Wait::Events
        }
        #[cfg(target_arch = "x86_64")]
        (Some(libc::SYS_epoll_wait | libc::SYS_poll | libc::SYS_select), _) => Wait::Events,
        _ => Wait::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_thread_is_read_whatever_its_name_is() {
        let host = FakeHost::v2();
        host.thread(10, 11, "a) D (b", 'S', (5, 7));
        host.write("proc/10/task/11/schedstat", b"1500 2500 9\n");
        host.write(
            "proc/10/task/11/status",
            b"Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n",
        );
        host.write("proc/10/task/12/stat", b"12 (cut");
        host.thread(10, 10, "main", 'T', (0, 0));
        let (threads, all) = host.reader().threads(10, 100);
        assert_eq!((threads.len(), all), (2, 3));
        assert_eq!((threads[0].tid, threads[0].state), (10, 'T'));
        let expected = Thread {
            pid: 10,
            tid: 11,
            name: "a) D (b".to_owned(),
            state: 'S',
            start_nanos: 1100 * 10_000_000,
            ticks: Duration::from_millis(120),
            run: Duration::from_nanos(1500),
            run_delay: Duration::from_nanos(2500),
            switches: 42,
        };
        assert_eq!(threads[1], expected);
        assert_eq!(host.reader().threads(10, 1).0.len(), 1);
        assert_eq!(host.reader().threads(99, 1), (Vec::new(), 0));
    }

    #[test]
    fn processor_time_is_counted_in_ticks_where_nothing_finer_is() {
        let host = FakeHost::v2();
        host.thread(10, 10, "main", 'R', (1, 1));
        let before = host.reader().threads(10, 1).0.remove(0);
        host.thread(10, 10, "main", 'R', (3, 2));
        let after = host.reader().threads(10, 1).0.remove(0);
        assert_eq!(after.cpu_since(Some(&before)), Duration::from_millis(30));
        assert_eq!(after.cpu_since(None), Duration::from_millis(50));
    }

    #[test]
    fn a_wait_channel_is_a_name() {
        let host = FakeHost::v2();
        host.write("proc/10/task/10/wchan", b"rpc_wait_bit_killable");
        host.write("proc/10/task/11/wchan", b"0");
        assert_eq!(host.reader().wait_channel(10, 10).as_deref(), Some("rpc_wait_bit_killable"));
        assert_eq!((host.reader().wait_channel(10, 11), host.reader().wait_channel(10, 12)), (None, None));
    }

    #[test]
    fn only_a_private_lock_without_a_time_limit_is_one_that_nothing_outside_can_release() {
        // Numbers of system calls differ between machines.
        let [futex, accept4, epoll_pwait, clock_nanosleep] =
            if cfg!(target_arch = "aarch64") { [98, 242, 22, 115] } else { [202, 288, 281, 230] };
        for (number, arguments, expected) in [
            (futex, "0x7f10 0x80 0x2 0x0 0x0 0x0", Wait::Lock),
            (futex, "0x7f10 0x189 0x0 0x0 0x0 0xffffffff", Wait::Lock),
            (futex, "0x7f10 0x189 0x0 0x7ffd0 0x0 0xffffffff", Wait::Other),
            (futex, "0x7f10 0x0 0x2 0x0 0x0 0x0", Wait::Other),
            (accept4, "0x3 0x0 0x0 0x80000 0x0 0x0", Wait::Connection),
            (epoll_pwait, "0x3 0x7f10 0x400 0xffffffff 0x0 0x8", Wait::Events),
            (clock_nanosleep, "0x0 0x0 0x7ffd 0x0 0x0 0x0", Wait::Other),
        ] {
            let text = format!("{number} {arguments} 0x7ffd 0x7f11");
            assert_eq!(wait_of(&text), expected, "{text}");
        }
        assert_eq!((wait_of("running"), wait_of("")), (Wait::Other, Wait::Other));
    }

    #[test]
    fn a_process_with_a_timer_or_a_handler_for_one_is_woken_by_signals() {
        let host = FakeHost::v2();
        let is_woken = |mask: &str, timers: &str| {
            host.write("proc/10/status", format!("Name:\tweb\nSigCgt:\t{mask}\nCapInh:\t0\n").as_bytes());
            host.write("proc/10/timers", timers.as_bytes());
            host.reader().is_woken_by_signals(10)
        };
        // SIGPIPE, SIGCHLD and those of glibc's threads.
        assert!(!is_woken("0000000180011000", ""));
        assert!(is_woken("0000000000002000", "") && is_woken("0000000010000000", ""), "SIGALRM, SIGIO");
        assert!(is_woken("0000000000000000", "ID: 0\nsignal: 34/0000000000000000\n"));
    }

    /// Calls that newer machines do without.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_older_calls_wait_for_events_as_well() {
        for number in [7, 23, 232] {
            assert_eq!(wait_of(&format!("{number} 0x3 0x0 0x0 0x0 0x0 0x0 0x7ffd 0x7f11")), Wait::Events);
        }
    }
}
