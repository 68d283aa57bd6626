//! Events about processes: their exits and their listeners.

use std::fmt::{self, Write as _};

use super::{Renderer, counted, millis, room, rounded, wall};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{
        CrashSite, ExitStatus, Listener, Membership, OomKill, OomScope, Process, ProcessExit, ProcessKey,
        Sender, ServiceId,
        process::{signal_name, whereabouts},
    },
};

/// Most sentences about the end of a process have fewer bytes.
const MESSAGE_USUAL: usize = 128;

impl Renderer<'_> {
    pub(super) fn process_exit(&self, record: &mut Record, exit: &ProcessExit, of: Option<Membership>) {
        let well = matches!(exit.status, ExitStatus::Code(0));
        record.message.reserve(MESSAGE_USUAL);
        let (subject, how) = (self.subject(&exit.process, of), ending(exit));
        // A String takes all that is written to it.
        let _ = write!(record.message, "{subject} {how} after {}", rounded(exit.uptime()));
        // The kernel's own words of a place are for programs: a build id, an offset.
        let is_named = |site: &&CrashSite| site.place().is_some_and(|place| place.module.is_some());
        if let Some(site) = exit.crash.as_deref().filter(is_named) {
            let _ = write!(record.message, "; it {}", site.words());
        }
        record.event.outcome = if well { Outcome::Success } else { Outcome::Failure };
        record.log.level = match of {
            Some(Membership { main: true, .. }) if !well => Level::Error,
            Some(Membership { main: false, .. }) if !well => Level::Warn,
            Some(_) | None => Level::Info,
        };
        record.event.provider = exit.source.into();
        let mut process = self.process_parts(record, &exit.process, of);
        process.uptime_ms = Some(millis(exit.uptime()));
        process.max_rss_bytes = Some(exit.max_rss_bytes).filter(|bytes| *bytes > 0);
        process.oom = Some(exit.oom);
        process.crash = exit.crash.as_ref().map(|site| self.crash(site));
        let died_of = match exit.status {
            ExitStatus::Code(code) => {
                process.exit_code = Some(code);
                None
            }
            ExitStatus::Unknown => None,
            ExitStatus::Signal { number, core_dumped } => {
                let sender = exit.killer();
                process.exit_signal = Some(self.signal(number, core_dumped, sender, &exit.process));
                Some(number)
            }
        };
        if let Some(number) = exit.sent_signal
            && died_of != Some(number)
        {
            let sender = exit.sender.as_ref();
            process.received_signal = Some(self.signal(number, false, sender, &exit.process));
        }
        record.process = Some(process);
    }

    pub(super) fn oom_kill(&self, record: &mut Record, kill: &OomKill, of: Option<Membership>) {
        let anon = bytes(kill.anon_bytes);
        let cause = match (kill.scope, kill.limit_bytes) {
            (OomScope::Memcg, Some(limit)) => format!("its cgroup reached its limit of {}", bytes(limit)),
            (OomScope::Memcg, None) => "its cgroup reached its limit".to_owned(),
            (OomScope::Global, _) => "the host ran out of memory".to_owned(),
            (OomScope::Sysrq, _) => "it was requested with SysRq".to_owned(),
            (OomScope::Unknown, _) => "memory ran out".to_owned(),
        };
        record.message = format!(
            "{} was chosen by the OOM killer with {anon} of anonymous memory: {cause}",
            self.subject(&kill.victim, of)
        );
        record.event.outcome = Outcome::Failure;
        record.log.level = if of.is_some() { Level::Error } else { Level::Warn };
        record.event.provider = kill.source.into();
        record.process = Some(self.process_parts(record, &kill.victim, of));
        record.oom = Some(wire::Oom {
            scope: kill.scope.into(),
            anon_bytes: kill.anon_bytes,
            file_bytes: kill.file_bytes,
            shmem_bytes: kill.shmem_bytes,
            limit_bytes: kill.limit_bytes,
            score_adj: kill.score_adj,
            trigger: wire::OomTrigger { pid: kill.trigger_pid, name: self.foreign_name(&kill.trigger_name) },
            cgroup: record.cgroup.as_ref().and_then(|cgroup| cgroup.path.clone()),
        });
    }

    pub(super) fn listener(&self, record: &mut Record, listener: &Listener, service: ServiceId) {
        let address = std::net::SocketAddr::new(listener.address, listener.port);
        let change = if listener.up { "listens on" } else { "no longer listens on" };
        record.message =
            format!("{} (pid {}) {change} {address}", self.names.service(service), listener.process.pid);
        if listener.up {
            record.event.outcome = Outcome::Success;
        } else {
            record.log.level = Level::Warn;
        }
        record.event.provider = listener.source.into();
        record.service = Some(self.service(service));
        record.process = Some(self.bare_process(listener.process));
        record.server = Some(wire::Endpoint { ip: listener.address.to_string(), port: listener.port });
    }

    /// Fills in the event's fields beside the process, and returns the process.
    fn process_parts(&self, record: &mut Record, process: &Process, of: Option<Membership>) -> wire::Process {
        record.service =
            of.map(|of| wire::Service { main_process: Some(of.main), ..self.service(of.service) });
        record.cgroup = process.cgroup.as_ref().map(|cgroup| wire::Cgroup {
            id: cgroup.id,
            path: (!cgroup.path.is_empty()).then(|| self.text(&cgroup.path, room::PATH)),
        });
        record.container =
            process.container_id.as_ref().map(|id| wire::Container::of_id(self.foreign_name(id)));
        let is_known = !process.name.is_empty();
        wire::Process {
            name: is_known.then(|| self.foreign_name(&process.name)),
            executable: process.executable.as_ref().map(|path| self.text(path, room::PATH)),
            command_line: process.command_line.as_ref().map(|line| self.text(line, room::COMMAND_LINE)),
            parent: (process.parent_pid != 0).then_some(wire::Parent { pid: process.parent_pid }),
            user: is_known.then(|| wire::User { id: process.user_id.to_string(), name: None }),
            pid_ns: process.namespace_pid,
            ..self.bare_process(process.key)
        }
    }

    pub(super) fn bare_process(&self, key: ProcessKey) -> wire::Process {
        let boot = self.origin.boot_id.split('-').next().unwrap_or_default();
        wire::Process {
            pid: key.pid,
            start: wall(key.start),
            entity_id: format!("{boot}-{}-{}", key.pid, key.start.as_nanos()),
            name: None,
            executable: None,
            command_line: None,
            parent: None,
            user: None,
            pid_ns: None,
            uptime_ms: None,
            max_rss_bytes: None,
            exit_code: None,
            exit_signal: None,
            received_signal: None,
            oom: None,
            crash: None,
        }
    }

    pub(super) fn signal(
        &self,
        number: u8,
        core_dumped: bool,
        sender: Option<&Sender>,
        target: &Process,
    ) -> wire::ExitSignal {
        let sender = sender.map(|sender| match sender {
            Sender::Process { pid, name, user_id, unit, .. } => wire::Sender {
                origin: wire::SenderOrigin::Process,
                pid: Some(*pid),
                name: Some(self.foreign_name(name)),
                user: Some(wire::User { id: user_id.to_string(), name: None }),
                unit: unit.as_ref().map(|unit| self.foreign_name(unit)),
            },
            Sender::Itself => wire::Sender {
                origin: wire::SenderOrigin::Itself,
                pid: Some(target.key.pid),
                name: Some(self.foreign_name(&target.name)),
                user: Some(wire::User { id: target.user_id.to_string(), name: None }),
                unit: None,
            },
            Sender::Kernel => wire::Sender {
                origin: wire::SenderOrigin::Kernel,
                pid: None,
                name: None,
                user: None,
                unit: None,
            },
        });
        wire::ExitSignal { number, name: signal_name(number), core_dumped, sender }
    }

    /// A process, as the subject of a sentence.
    fn subject(&self, process: &Process, of: Option<Membership>) -> impl fmt::Display {
        let pid = process.key.pid;
        fmt::from_fn(move |f| match of {
            Some(Membership { service, main: true }) => {
                write!(f, "{} (pid {pid})", self.names.service(service))
            }
            Some(Membership { service, main: false }) => {
                write!(f, "{} (pid {pid}, a process of {})", process.name, self.names.service(service))
            }
            None => write!(f, "{} (pid {pid})", process.name),
        })
    }
}

/// How a process ended, for people.
fn ending(exit: &ProcessExit) -> impl fmt::Display {
    fmt::from_fn(|f| match (exit.status, exit.killer()) {
        (ExitStatus::Code(code), _) => {
            write!(f, "exited with code {code}")?;
            match (exit.sent_signal, &exit.sender) {
                (Some(number), Some(Sender::Process { pid, name, .. })) => {
                    write!(f, " on {} from {name} ({})", signal_name(number), whereabouts(*pid))
                }
                (_, _) => Ok(()),
            }
        }
        (ExitStatus::Unknown, _) => f.write_str("ended with an unknown status"),
        (status @ ExitStatus::Signal { .. }, _) if exit.oom => {
            write!(f, "was killed by the OOM killer ({status})")
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Process { pid, name, user_id, unit, .. })) => {
            write!(f, "was killed by {status} from {name} ({}, uid {user_id}", whereabouts(*pid))?;
            if let Some(unit) = unit {
                write!(f, ", {unit}")?;
            }
            f.write_str(")")
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Itself)) => {
            write!(f, "ended itself with {status}")
        }
        (status @ ExitStatus::Signal { .. }, Some(Sender::Kernel)) => {
            write!(f, "was ended by the kernel with {status}")
        }
        (status @ ExitStatus::Signal { .. }, None) => write!(f, "was ended by {status}"),
    })
}

/// An amount of memory for people.
fn bytes(amount: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match amount {
        0..1024 => counted(amount, "byte"),
        1024..MIB => format!("{} KiB", amount / 1024),
        MIB..0x4000_0000 => format!("{} MiB", amount / MIB),
        _ => format!("{:.1} GiB", amount as f64 / (1024 * MIB) as f64),
    }
}
