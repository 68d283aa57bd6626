//! What keeps processes from running on purpose: a tracer, a frozen cgroup, a core dump in progress.

use super::{ProcReader, process::status_field, read_record};
use crate::fact::{FrozenCgroup, Tracer};

/// Each process costs a read of two files. More than these say no more about the service.
const PROCESSES_MAX: usize = 256;

/// `status` is one or two kilobytes long.
const STATUS_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// The first tracer that is none of these processes.
    pub tracer: Option<Tracer>,
    pub frozen: Option<FrozenCgroup>,
    /// The first process that writes its core dump.
    pub dumping_core: Option<u32>,
}

impl ProcReader {
    /// What keeps one of these processes from running.
    pub fn standstill(&self, pids: &[u32]) -> Standstill {
        let mut found = Standstill::default();
        for &pid in pids.iter().take(PROCESSES_MAX) {
            let status = read_record(&self.folder(pid).join("status"), STATUS_MAX).unwrap_or_default();
            let status = String::from_utf8_lossy(&status);
            let number = |field| status_field(&status, field).next().unwrap_or_default();
            if number("CoreDumping") == 1 {
                found.dumping_core = found.dumping_core.or(Some(pid));
            }
            let thread = number("TracerPid");
            if found.tracer.is_none() && thread != 0 {
                let tracer = self.process_of(thread);
                // A sandbox traces its own processes all the time, and hostprobe stops threads for a moment.
                let is_outside = !pids.contains(&tracer) && tracer != std::process::id();
                found.tracer = is_outside.then(|| Tracer { pid: tracer, name: self.name(tracer) });
            }
            if found.frozen.is_none() {
                found.frozen = self.cgroups().frozen(pid);
            }
        }
        found
    }

    /// Whether a process writes its core dump. SIGKILL would end the dump.
    pub fn dumps_core(&self, pid: u32) -> bool {
        self.standstill(&[pid]).dumping_core.is_some()
    }

    /// The process that a thread belongs to.
    fn process_of(&self, thread: u32) -> u32 {
        let status = read_record(&self.folder(thread).join("status"), STATUS_MAX).unwrap_or_default();
        status_field(&String::from_utf8_lossy(&status), "Tgid").next().unwrap_or(thread)
    }

    fn name(&self, pid: u32) -> String {
        self.stat(pid).map(|stat| stat.comm).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::{fact::Tracer, host::fake::FakeHost};

    #[test]
    fn a_tracer_counts_if_it_is_no_process_of_the_service() {
        let host = FakeHost::v2();
        host.process(10, 1, "sandbox", "/sandbox");
        host.process(11, 10, "app", "/app");
        host.process(40, 1, "gdb", "/usr/bin/gdb");
        host.write("proc/11/status", b"Name:\tapp\nTracerPid:\t10\nCoreDumping:\t0\n");
        assert_eq!(host.reader().standstill(&[10, 11]).tracer, None);
        // A thread traces it.
        host.write("proc/15/status", b"Name:\tworker\nTgid:\t10\n");
        host.write("proc/11/status", b"Name:\tapp\nTracerPid:\t15\n");
        assert_eq!(host.reader().standstill(&[10, 11]).tracer, None);
        host.write("proc/11/status", b"Name:\tapp\nTracerPid:\t40\n");
        let gdb = Tracer { pid: 40, name: "gdb".to_owned() };
        assert_eq!(host.reader().standstill(&[10, 11]).tracer, Some(gdb));
        assert_eq!(host.reader().standstill(&[99]), Default::default());
    }

    #[test]
    fn a_process_that_writes_its_core_dump_is_named() {
        let host = FakeHost::v2();
        host.process(10, 1, "sh", "/bin/sh");
        host.process(11, 10, "app", "/app");
        assert!(!host.reader().dumps_core(11));
        host.write("proc/11/status", b"Name:\tapp\nTracerPid:\t0\nCoreDumping:\t1\n");
        assert_eq!(host.reader().standstill(&[10, 11]).dumping_core, Some(11));
        assert!(host.reader().dumps_core(11) && !host.reader().dumps_core(10));
    }
}
