//! Whether a service's processes make progress: two samples, and the difference.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{AcceptQueue, Examination, ProcessKey},
    host::{
        ProcReader,
        cgroup::Hierarchy,
        client::ClientCount,
        pressure::total_micros,
        read_text,
        thread::{Thread, Wait},
    },
};

/// The most threads of a sample: enough for any service, and read in well under a second.
const THREADS_MAX: usize = 4096;

/// The longest title of a process that is read, in bytes.
const TITLE_MAX: u64 = 4096;

/// One sample of a service's processes.
#[derive(Debug)]
pub struct Sample {
    at: Timestamp,
    main: ProcessKey,
    /// The number of threads, including those beyond the limit.
    count: usize,
    pids: Vec<u32>,
    threads: Vec<Thread>,
    /// What the first thread waits for.
    main_waits: Wait,
    /// Each thread waits for a lock of its own process or for a new connection, and no signal of the kernel could release a
    /// lock. It was read after the threads: one that has not run until the next sample has waited for this all the time.
    locked: bool,
    /// The accept queues of its listeners, by inode number.
    queues: Vec<(u64, AcceptQueue)>,
    /// The connections at its listeners, by port; read only if any waits.
    clients: HashMap<u16, ClientCount>,
    /// The total time that a task of its cgroup waited for a CPU, in microseconds.
    starved_micros: Option<u64>,
    /// How far the main process is in the files that it writes.
    written: HashMap<String, u64>,
}

impl Sample {
    /// The time of the sample's start.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl ProcReader {
    /// Samples a service's main process and its descendants. None if the main process is gone.
    pub fn sample(&self, main: ProcessKey) -> Option<Sample> {
        if self.key_of(main.pid) != Some(main) {
            return None;
        }
        let at = Timestamp::now();
        let pids = self.process_tree().of(main.pid);
        let (mut threads, mut count) = (Vec::new(), 0);
        for &pid in &pids {
            let (some, all) = self.threads(pid, THREADS_MAX - threads.len());
            threads.extend(some);
            count += all;
        }
        let main_waits = self.wait(main.pid, main.pid);
        let locked = threads.len() == count
            && self.are_locked(&threads)
            && !pids.iter().any(|&pid| self.is_woken_by_signals(pid));
        let queues = self.accept_queues(&pids);
        let waits = queues.iter().any(|(_, queue)| queue.waiting > 0);
        let clients = if waits { self.clients_of(&pids, &queues) } else { HashMap::new() };
        let starved_micros = self.starved_micros(main.pid);
        let written = self.write_positions(main.pid);
        Some(Sample {
            at,
            main,
            count,
            pids,
            threads,
            main_waits,
            locked,
            queues,
            clients,
            starved_micros,
            written,
        })
    }

    /// The progress between an earlier sample and now. None if the main process is gone.
    pub fn examine(&self, earlier: &Sample) -> Option<Examination> {
        let now = self.sample(earlier.main)?;
        let over = now.at.since(earlier.at);
        let key = |thread: &Thread| (thread.tid, thread.start_nanos);
        let before: HashMap<_, _> = earlier.threads.iter().map(|thread| (key(thread), thread)).collect();
        let main = now.threads.iter().find(|thread| thread.tid == now.main.pid);
        let standstill = self.standstill(&now.pids);
        let mut seen = Examination {
            at: now.at,
            over,
            threads: u32::try_from(now.count).unwrap_or(u32::MAX),
            stopped: main.is_some_and(|main| main.state == 'T'),
            traced: main.is_some_and(|main| main.state == 't'),
            tracer: standstill.tracer,
            frozen: standstill.frozen,
            dumping_core: standstill.dumping_core,
            waits_for_events: [earlier.main_waits, now.main_waits].contains(&Wait::Events),
            ..Examination::default()
        };
        for thread in &now.threads {
            let then = before.get(&key(thread)).copied();
            // A thread that the first sample left out would count with its whole life.
            if then.is_none() && thread.start_nanos.saturating_add(self.tick_nanos()) < earlier.at.as_nanos()
            {
                continue;
            }
            let cpu = thread.cpu_since(then);
            if thread.state == 'R'
                && cpu.is_zero()
                && then.is_some_and(|then| then.switches == thread.switches)
            {
                seen.starving += 1;
            }
            seen.cpu += cpu;
            seen.run_delay +=
                thread.run_delay.saturating_sub(then.map_or(Duration::ZERO, |then| then.run_delay));
            let switches = thread.switches.saturating_sub(then.map_or(0, |then| then.switches));
            seen.switches = seen.switches.saturating_add(switches);
            if thread.state == 'D' && then.is_some_and(|then| then.state == 'D') {
                seen.uninterruptible += 1;
                if seen.wait_channel.is_none() {
                    seen.wait_channel = self.wait_channel(thread.pid, thread.tid);
                }
            }
        }
        (seen.queue_before, seen.queue) = fullest(&earlier.queues, &now.queues);
        self.examine_clients(earlier, &now, &mut seen);
        let starved = earlier.starved_micros.zip(now.starved_micros);
        seen.cgroup_pressure = starved
            .filter(|_| !over.is_zero())
            .map(|(then, now)| (now.saturating_sub(then) as f64 / over.as_micros().max(1) as f64).min(1.0));
        let is_ahead = |(path, at): &(&String, &u64)| {
            earlier.written.get(path.as_str()).is_some_and(|before| before < *at)
        };
        seen.writes = now.written.iter().filter(is_ahead).map(|(path, _)| path.clone()).min();
        seen.locked_out = self.locked_out(&now.pids);
        Some(seen)
    }

    fn examine_clients(&self, earlier: &Sample, now: &Sample, seen: &mut Examination) {
        if let (Some(before), Some(after)) = (seen.queue_before, seen.queue) {
            let waiting = |sample: &Sample, queue: AcceptQueue| match queue.waiting {
                0 => Some(0),
                _ => sample.clients.get(&queue.port).map(|clients| clients.waiting),
            };
            seen.clients_before = waiting(earlier, before);
            seen.clients = waiting(now, after);
        }
        let idled = seen.idled();
        let counts = if idled && now.clients.is_empty() {
            self.clients_of(&now.pids, &now.queues)
        } else {
            now.clients.clone()
        };
        seen.served = counts.values().map(|count| count.served).sum();
        seen.abandoned = counts.values().map(|count| count.abandoned).sum();
        seen.unanswered = counts.values().map(|count| count.unanswered).sum();
        // A thread that has ended has run.
        seen.locked = idled && earlier.locked && earlier.count == now.count;
    }

    fn clients_of(&self, pids: &[u32], queues: &[(u64, AcceptQueue)]) -> HashMap<u16, ClientCount> {
        let mut ports: Vec<u16> = queues.iter().map(|(_, queue)| queue.port).collect();
        ports.sort_unstable();
        ports.dedup();
        self.client_counts(pids, &ports)
    }

    /// Whether each thread waits for a lock of its own process or for a new connection, and at least one for a lock. One that
    /// cannot be interrupted waits for something else on its way into the call or out of it, such as for a page of memory.
    fn are_locked(&self, threads: &[Thread]) -> bool {
        let mut any_lock = false;
        for thread in threads.iter().filter(|thread| thread.state != 'Z') {
            if thread.state != 'S' {
                return false;
            }
            match self.wait(thread.pid, thread.tid) {
                Wait::Lock => any_lock = true,
                Wait::Connection => {}
                Wait::Events | Wait::Other => return false,
            }
        }
        any_lock
    }

    /// The first of these processes whose title says that a login waits for a lock.
    fn locked_out(&self, pids: &[u32]) -> Option<u32> {
        pids.iter().copied().find(|&pid| {
            let title = read_text(&self.folder(pid).join("cmdline"), TITLE_MAX).unwrap_or_default();
            is_locked_out(&title)
        })
    }

    /// The total time that a task of a process's own v2 cgroup waited for a CPU, in microseconds. None without PSI,
    /// and for the root cgroup, which holds the whole host's tasks.
    fn starved_micros(&self, pid: u32) -> Option<u64> {
        let group = self.cgroups().of(pid).v2.filter(|path| path != "/")?;
        let folder: PathBuf = self.cgroups().folder(Hierarchy::V2, &group)?;
        total_micros(&read_text(&folder.join("cpu.pressure"), 4096).ok()?, "some")
    }
}

/// Whether the title of a PostgreSQL process says that its session waits for a lock before it has begun: such as
/// `postgres: user database 127.0.0.1(40000) startup waiting` (`src/backend/utils/misc/ps_status.c` of PostgreSQL). Spaces
/// or zeros fill the rest of it.
fn is_locked_out(title: &str) -> bool {
    let title = title.trim_end_matches(['\0', ' ']);
    title.starts_with("postgres: ")
        && (title.ends_with(" startup waiting") || title.ends_with(" authentication waiting"))
}

/// The queue that was fullest in the first sample, in both samples. Among equally full queues, the fullest one of the
/// second sample.
fn fullest(
    before: &[(u64, AcceptQueue)],
    now: &[(u64, AcceptQueue)],
) -> (Option<AcceptQueue>, Option<AcceptQueue>) {
    let then = |inode: &u64| before.iter().find(|(other, _)| other == inode).map(|(_, queue)| *queue);
    let both = now.iter().filter_map(|(inode, queue)| Some((then(inode)?, *queue)));
    // A full queue of a small backlog matters more than a longer one with room.
    let fullest = both.max_by_key(|(then, now)| (then.is_full() || now.is_full(), then.waiting, now.waiting));
    match fullest {
        Some((then, now)) => (Some(then), Some(now)),
        // A new listener has no earlier sample to compare with.
        None => (None, now.iter().map(|(_, queue)| *queue).max_by_key(|queue| queue.waiting)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process::{Child, Command, Stdio},
    };

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use super::*;
    use crate::{fact::Source, host::fake::FakeHost};

    #[test]
    fn a_title_tells_of_a_login_that_waits_for_a_lock() {
        assert!(is_locked_out("postgres: probe shop 127.0.0.1(40000) startup waiting\0\0"));
        assert!(is_locked_out("postgres: main: probe shop [local] authentication waiting   "));
        assert!(!is_locked_out("postgres: probe shop 127.0.0.1(40000) startup"));
        assert!(!is_locked_out("postgres: probe shop 127.0.0.1(40000) SELECT waiting"));
        assert!(!is_locked_out("nginx: worker process startup waiting") && !is_locked_out(""));
    }

    struct Running(Child);

    impl Running {
        fn shell(script: &str) -> Self {
            let mut shell = Command::new("/bin/sh");
            Self(shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn real() -> ProcReader {
        ProcReader::new("/").unwrap()
    }

    #[test]
    fn a_stopped_process_does_nothing() {
        let reader = real();
        let child = Running::shell("while :; do :; done");
        let pid = Pid::from_child(&child.0);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
        let key = reader.key_of(child.pid()).unwrap();
        // The parent learns of the stop a moment before the process gives up the CPU.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let seen = loop {
            let first = reader.sample(key).unwrap();
            let seen = reader.examine(&first).unwrap();
            if !seen.progressed() || std::time::Instant::now() > deadline {
                break seen;
            }
        };
        assert!(seen.stopped && !seen.traced && !seen.progressed(), "{seen:?}");
        assert_eq!((seen.threads, seen.uninterruptible), (1, 0));
    }

    #[test]
    fn a_process_that_spins_uses_its_cpu() {
        let reader = real();
        let child = Running::shell("while :; do :; done");
        let first = reader.sample(reader.key_of(child.pid()).unwrap()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let seen = loop {
            let seen = reader.examine(&first).unwrap();
            if seen.cpu > Duration::from_millis(20) || std::time::Instant::now() > deadline {
                break seen;
            }
        };
        assert!(seen.cpu > Duration::from_millis(20) && seen.cpu <= seen.over * 2, "{seen:?}");
        assert!(seen.progressed() && !seen.stopped);
    }

    #[test]
    fn the_queue_of_a_listener_without_accepts_grows() {
        let reader = real();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = vec![TcpStream::connect(address).unwrap()];
        // The child inherits nothing, so the sample is of this process, which holds the listener.
        let first = reader.sample(reader.key_of(std::process::id()).unwrap()).unwrap();
        clients.push(TcpStream::connect(address).unwrap());
        let now = reader.accept_queues(&[std::process::id()]);
        let of_ours = |queues: &[(u64, AcceptQueue)]| -> Vec<(u64, AcceptQueue)> {
            queues.iter().copied().filter(|(_, queue)| queue.port == address.port()).collect()
        };
        let (before, after) = fullest(&of_ours(&first.queues), &of_ours(&now));
        let seen = Examination { queue_before: before, queue: after, ..Examination::default() };
        assert_eq!((before.unwrap().waiting, after.unwrap().waiting), (1, 2));
        assert!(seen.queue.unwrap().is_full() && !seen.has_room());
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        let reader = real();
        let child = Running::shell("read line");
        let key = reader.key_of(child.pid()).unwrap();
        let first = reader.sample(key).unwrap();
        let reused = ProcessKey { pid: key.pid, start: Timestamp::from_nanos(1) };
        assert!(reader.sample(reused).is_none());
        drop(child);
        assert!(reader.examine(&first).is_none() && reader.sample(key).is_none());
    }

    #[test]
    fn threads_are_compared_with_themselves() {
        let host = FakeHost::v2();
        host.process(10, 1, "db", "/db");
        host.process(11, 10, "worker", "/db");
        host.cgroup_file(10, "0::/db.service\n");
        host.write("sys/fs/cgroup/db.service/cpu.pressure", b"some avg10=0.00 total=1000\nfull total=0\n");
        host.thread(10, 10, "db", 't', (10, 0));
        host.thread(10, 12, "io", 'D', (0, 0));
        host.thread(11, 11, "worker", 'D', (0, 0));
        host.write("proc/10/task/12/wchan", b"folio_wait_bit");
        host.write("proc/11/task/11/status", b"voluntary_ctxt_switches:\t5\n");
        let reader = host.reader();
        let first = reader.sample(reader.key_of(10).unwrap()).unwrap();
        host.thread(10, 10, "db", 't', (12, 1));
        host.thread(11, 11, "worker", 'S', (0, 0));
        host.write("proc/11/task/11/status", b"voluntary_ctxt_switches:\t9\n");
        // This listener is as old as the others, and missing in the first sample.
        host.thread(11, 13, "late", 'S', (500, 0));
        host.write(
            "sys/fs/cgroup/db.service/cpu.pressure",
            b"some avg10=0.00 total=900001000\nfull total=0\n",
        );
        let seen = reader.examine(&first).unwrap();
        assert_eq!((seen.threads, seen.uninterruptible, seen.switches), (4, 1, 4));
        assert_eq!(seen.wait_channel.as_deref(), Some("folio_wait_bit"));
        assert_eq!(seen.cpu, Duration::from_millis(30));
        assert!(seen.traced && !seen.stopped);
        assert_eq!(seen.cgroup_pressure, Some(1.0));
        assert_eq!((seen.queue_before, seen.queue), (None, None));
    }

    #[test]
    fn an_event_loop_that_is_idle_in_one_sample_waits_for_events() {
        let idle = format!("{} 0x3 0x7f10 0x400 0xffffffff 0x0 0x8 0x7ffd 0x7f11", libc::SYS_epoll_pwait);
        let asleep = format!("{} 0x0 0x0 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7f11", libc::SYS_clock_nanosleep);
        let waits = |first: &str, second: &str| {
            let host = FakeHost::v2();
            host.process(10, 1, "redis", "/redis");
            host.thread(10, 10, "redis", 'S', (7, 3));
            host.write("proc/10/task/10/syscall", first.as_bytes());
            let reader = host.reader();
            let sample = reader.sample(reader.key_of(10).unwrap()).unwrap();
            host.write("proc/10/task/10/syscall", second.as_bytes());
            reader.examine(&sample).unwrap().waits_for_events
        };
        assert!(waits(&idle, &idle) && waits(&idle, "running") && waits("running", &idle));
        assert!(!waits("running", "running") && !waits(&asleep, &asleep));
    }

    #[test]
    fn threads_are_locked_if_each_waited_for_another_one_in_the_first_sample_and_none_has_run_since() {
        let call =
            |number: i64, third: &str| format!("{number} 0x7f10 {third} 0x2 0x0 0x0 0x0 0x7ffd 0x7f11");
        let lock = call(libc::SYS_futex, "0x80");
        let accept = call(libc::SYS_accept4, "0x0");
        let asleep = call(libc::SYS_clock_nanosleep, "0x0");
        let is_locked = |first: [(&str, char); 2], change: &dyn Fn(&FakeHost)| {
            let host = FakeHost::v2();
            host.process(10, 1, "web", "/web");
            for (tid, (call, state)) in [10, 11].into_iter().zip(first) {
                host.thread(10, tid, "web", state, (7, 3));
                host.write(&format!("proc/10/task/{tid}/syscall"), call.as_bytes());
            }
            let reader = host.reader();
            let sample = reader.sample(reader.key_of(10).unwrap()).unwrap();
            change(&host);
            reader.examine(&sample).unwrap().locked
        };
        let nothing = |_: &FakeHost| {};
        assert!(is_locked([(&lock, 'S'), (&accept, 'S')], &nothing));
        assert!(!is_locked([(&accept, 'S'), (&accept, 'S')], &nothing), "it waits for work");
        assert!(!is_locked([(&lock, 'S'), (&asleep, 'S')], &nothing), "one wakes by itself");
        assert!(!is_locked([(&lock, 'S'), (&lock, 'D')], &nothing), "one waits for a page of memory");
        let ran = |host: &FakeHost| host.thread(10, 11, "web", 'S', (8, 3));
        assert!(!is_locked([(&lock, 'S'), (&accept, 'S')], &ran));
        let then_locked = |host: &FakeHost| host.write("proc/10/task/11/syscall", lock.as_bytes());
        assert!(!is_locked([(&lock, 'S'), (&asleep, 'S')], &then_locked), "it slept before");
        let ended = |host: &FakeHost| host.remove("proc/10/task/11");
        assert!(!is_locked([(&lock, 'S'), (&accept, 'S')], &ended), "a thread that has ended has run");
    }

    #[test]
    fn a_thread_that_is_ready_and_never_runs_starves() {
        let host = FakeHost::v2();
        host.process(10, 1, "web", "/web");
        host.thread(10, 10, "web", 'S', (7, 3));
        host.thread(10, 11, "accept", 'R', (5, 0));
        host.thread(10, 12, "work", 'R', (5, 0));
        let reader = host.reader();
        let first = reader.sample(reader.key_of(10).unwrap()).unwrap();
        host.thread(10, 12, "work", 'R', (6, 0));
        let seen = reader.examine(&first).unwrap();
        assert_eq!((seen.starving, seen.progressed(), seen.idled()), (1, true, false));
    }

    #[test]
    fn a_listener_that_came_meanwhile_has_nothing_to_be_compared_with() {
        let queue = |port, waiting| AcceptQueue {
            at: Timestamp::default(),
            source: Source::Proc,
            address: [127, 0, 0, 1].into(),
            port,
            waiting,
            backlog: 10,
        };
        assert_eq!(fullest(&[], &[(1, queue(1, 3)), (2, queue(2, 5))]), (None, Some(queue(2, 5))));
        let before = [(1, queue(1, 3)), (2, queue(2, 5))];
        let now = [(1, queue(1, 9)), (2, queue(2, 4))];
        assert_eq!(fullest(&before, &now), (Some(queue(2, 5)), Some(queue(2, 4))));
    }
}
