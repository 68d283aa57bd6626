//! Programs besides the kernel that end others when memory runs short.

use super::sender::sender_words;
use crate::fact::{ExitStatus, ProcessExit, Sender, process::signal_name};

/// Such programs by their names (`comm`), cut to 15 characters as the kernel does. systemd-oomd kills a cgroup; earlyoom and
/// nohang send SIGTERM first.
const PROGRAMS: [&str; 5] = ["systemd-oomd", "earlyoom", "nohang", "oomd", "psi-monitor"];

/// What ends the containers of a pod.
const RUNTIMES: [&str; 6] = ["containerd-shim", "containerd", "runc", "crun", "crio", "kubelet"];

/// The code of a program that ends on a SIGTERM as shells say it.
const TERMINATED: u8 = 128 + 15;

/// A program that ended a process for its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryKiller<'e> {
    pub name: &'e str,
    sender: &'e Sender,
}

/// The program that ended a process for its memory, if one did.
pub fn memory_killer(exit: &ProcessExit) -> Option<MemoryKiller<'_>> {
    let sender @ Sender::Process { name, .. } = exit.sender.as_ref()? else { return None };
    let died_of_it = match exit.status {
        ExitStatus::Signal { number, .. } => exit.sent_signal == Some(number),
        ExitStatus::Code(code) => code == 0 || code == TERMINATED,
        ExitStatus::Unknown => false,
    };
    (died_of_it && PROGRAMS.contains(&name.as_str())).then_some(MemoryKiller { name, sender })
}

impl MemoryKiller<'_> {
    /// As the end of a sentence about the process.
    pub fn words(self, exit: &ProcessExit) -> String {
        let by = sender_words(self.sender);
        let how = match (exit.status, exit.sent_signal) {
            (ExitStatus::Code(code), Some(signal)) => {
                format!("exited with code {code} after {}", signal_name(signal))
            }
            (status, _) => format!("was killed by {status}"),
        };
        format!("{how} from {by}, which ends processes when memory runs short")
    }
}

/// What a person needs to know of a container that the runtime of Kubernetes ended: the record of an eviction is not on the
/// host.
pub fn of_kubernetes(exit: &ProcessExit) -> Option<&'static str> {
    let Some(Sender::Process { name, .. }) = &exit.sender else { return None };
    let in_pod = exit.process.cgroup.as_ref().is_some_and(|group| group.path.contains("kubepods"));
    (in_pod && RUNTIMES.contains(&name.as_str())).then_some(
        ", the container runtime of Kubernetes: the pod was deleted, failed its liveness probe or was evicted by the \
         kubelet, as `kubectl describe pod` says",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        engine::verdict::{is_clean, of_exit, of_worker},
        fact::{Cgroup, Process, ProcessKey, ServiceId, Source, Verdict},
    };

    fn exit(name: &str, status: ExitStatus, sent: u8) -> ProcessExit {
        let key = ProcessKey { pid: 42, start: Timestamp::from_nanos(1) };
        ProcessExit {
            at: Timestamp::from_nanos(9),
            source: Source::Ebpf,
            process: Process::unknown(key, 1),
            status,
            sender: Some(Sender::Process {
                pid: 7,
                name: name.to_owned(),
                user_id: 0,
                unit: None,
                terminal: false,
            }),
            sent_signal: Some(sent),
            sender_service: None,
            oom: false,
            max_rss_bytes: 0,
            namespace_end: None,
            left_processes: false,
            actor: None,
            crash: None,
        }
    }

    const KILL: ExitStatus = ExitStatus::Signal { number: 9, core_dumped: false };
    const TERM: ExitStatus = ExitStatus::Signal { number: 15, core_dumped: false };

    #[test]
    fn a_program_that_ends_others_for_their_memory_is_named_as_the_killer() {
        let finding = of_exit(&exit("systemd-oomd", KILL, 9), None);
        assert_eq!(finding.verdict, Verdict::OomKilled);
        let words = finding.summary.to_string();
        assert!(words.contains("was killed by SIGKILL from systemd-oomd (pid 7, uid 0)"), "{words}");
        for status in [TERM, ExitStatus::Code(0), ExitStatus::Code(143)] {
            let by_earlyoom = exit("earlyoom", status, 15);
            assert_eq!(of_exit(&by_earlyoom, None).verdict, Verdict::OomKilled, "{status}");
            assert!(!is_clean(&by_earlyoom, ServiceId(0)), "{status}: it is no stop on request");
            assert!(of_worker(&by_earlyoom, None).is_some(), "{status}");
        }
        assert_eq!(of_exit(&exit("earlyoom", ExitStatus::Code(1), 15), None).verdict, Verdict::Exited);
        assert_eq!(of_exit(&exit("bash", KILL, 9), None).verdict, Verdict::Killed);
        assert!(is_clean(&exit("bash", TERM, 15), ServiceId(0)));
    }

    #[test]
    fn a_container_of_a_pod_may_have_been_evicted() {
        let mut by_runtime = exit("containerd-shim", KILL, 9);
        assert!(!of_exit(&by_runtime, None).summary.to_string().contains("Kubernetes"));
        by_runtime.process.cgroup =
            Some(Cgroup { id: 1, path: "/kubepods.slice/kubepods-pod1.slice/x".to_owned() });
        let words = of_exit(&by_runtime, None).summary.to_string();
        assert!(words.contains("evicted by the kubelet"), "{words}");
    }
}
