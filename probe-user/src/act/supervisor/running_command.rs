//! What a later daemon has to know of a running command to take it over.
//!
//! It comes from the state directory, so that it may be old, or of another host. The process is taken over only if
//! everything that identifies it is still true.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ring::digest::{Context, SHA256};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    config::Exec,
    fact::{Cgroup, ProcessKey},
    host::{FileId, OwnCgroup, PidScope, ProcReader, is_there},
};

/// A command that was started or adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCommand {
    /// Its main process.
    pub process: ProcessKey,
    pub(super) scope: PidScope,
    /// In the v2 hierarchy; None where the daemon cannot make cgroups.
    pub(super) cgroup: Option<Cgroup>,
    pub(super) program: String,
    /// Of everything that makes it another command; empty if only its cgroup knows of it.
    pub(super) digest: String,
    pub(super) stop_signal: i32,
    pub(super) stop_timeout: Duration,
    /// None if the command writes to its file itself.
    pub(super) output: Option<PipedOutput>,
}

/// The output of a command that a thread of the daemon writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PipedOutput {
    pub(super) pipe: FileId,
    pub(super) file: PathBuf,
    pub(super) max: Option<u64>,
    pub(super) keep: u32,
    pub(super) stamp: bool,
}

impl PipedOutput {
    pub(super) fn of(exec: &Exec, pipe: FileId) -> Self {
        let Exec { output, output_max, output_keep, output_stamp, .. } = exec;
        Self { pipe, file: output.clone(), max: *output_max, keep: *output_keep, stamp: *output_stamp }
    }
}

/// What has become of a command since the daemon that started it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Runs,
    Ended,
    /// The host has booted since.
    Booted,
    /// A process has its pid and start time, and something else of it differs.
    Differs(String),
}

impl RunningCommand {
    /// Writes it to its cgroup, for the next daemon with this state directory.
    pub(super) fn note(&self, processes: &ProcReader, cgroup: &Path, state: FileId) {
        // Everybody can read it, and the digest is also that of secrets.
        let noted = Self { digest: String::new(), ..self.clone() };
        if let Err(error) = processes.cgroups().set_command(cgroup, state, &noted.text()) {
            tracing::debug!("{}: the cgroup does not take what runs in it: {error}", cgroup.display());
        }
    }

    /// It as JSON.
    pub fn text(&self) -> String {
        // There are no maps without string keys, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    /// Takes what the note in the cgroup lacks from what the state file has of the same process.
    pub fn complete(&mut self, kept: Option<&Self>) {
        if let Some(kept) = kept.filter(|kept| kept.process == self.process) {
            self.digest.clone_from(&kept.digest);
        }
    }

    /// Whether a start of `exec` would start the same, as far as is known. How a command is stopped is no part of it.
    pub fn is_of(&self, exec: &Exec) -> bool {
        self.digest.is_empty() || self.digest == digest(exec)
    }

    /// It as far as is known: what ends it, and where its output goes.
    pub fn exec(&self) -> Exec {
        let defaults = Exec::default();
        let command = vec![self.program.clone()];
        let stop_signal = Signal::from_named_raw(self.stop_signal).unwrap_or(defaults.stop_signal);
        let exec = Exec { command, stop_signal, stop_timeout: self.stop_timeout, ..defaults };
        match &self.output {
            None => exec,
            Some(PipedOutput { pipe: _, file, max, keep, stamp }) => Exec {
                output: file.clone(),
                output_max: *max,
                output_keep: *keep,
                output_stamp: *stamp,
                ..exec
            },
        }
    }

    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout
    }

    /// What has become of it. It was started for this service.
    pub fn standing(&self, service: &str, processes: &ProcReader) -> Standing {
        let scope = processes.pid_scope();
        if !scope.is_known() {
            return Standing::Differs("the boot id or the pid namespace cannot be read".to_owned());
        }
        if self.scope.boot_id != scope.boot_id {
            return Standing::Booted;
        }
        if self.scope != scope {
            return Standing::Differs("it was started in another pid namespace".to_owned());
        }
        if !processes.runs(self.process) {
            let is_readable = processes.key_of(self.process.pid).is_some();
            return if is_readable || !is_there(self.process.pid) {
                Standing::Ended
            } else {
                Standing::Differs("its /proc/PID/stat cannot be read".to_owned())
            };
        }
        let Some(cgroup) = &self.cgroup else { return Standing::Runs };
        let path = processes.cgroups().of(self.process.pid).v2.unwrap_or_default();
        // A service may make groups of its own below.
        let is_inside =
            path.strip_prefix(&cgroup.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_inside || self.made_cgroup(service, processes).is_none() {
            return Standing::Differs(format!(
                "it is in the cgroup {path}, and was started in {}",
                cgroup.path
            ));
        }
        Standing::Runs
    }

    /// Its cgroup, if that is still there.
    pub fn made_cgroup(&self, service: &str, processes: &ProcReader) -> Option<OwnCgroup> {
        processes.cgroups().made_before(self.cgroup.as_ref()?, service)
    }

    pub fn has_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }
}

/// A digest of everything that makes it another command, so that the file has none of its secrets.
pub(super) fn digest(exec: &Exec) -> String {
    // Each field is named, so that a new key does not compile until it is handled here.
    let Exec {
        command,
        output,
        output_max,
        output_keep,
        output_stamp,
        directory,
        environment,
        user,
        group,
        umask,
        rlimits,
        stop_signal: _,
        stop_timeout: _,
    } = exec;
    let mut context = Context::new(&SHA256);
    // With its length, so that no two lists of parts have the same bytes.
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    };
    let mut add_all = |kind: &str, parts: &[&[u8]]| {
        add(kind.as_bytes());
        add(&(parts.len() as u64).to_le_bytes());
        parts.iter().for_each(|part| add(part));
    };
    let text = |text: String| text.into_bytes();
    let optional = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
    add_all("command", &command.iter().map(String::as_bytes).collect::<Vec<_>>());
    add_all("directory", &[directory.as_os_str().as_encoded_bytes()]);
    add_all("output", &[output.as_os_str().as_encoded_bytes()]);
    let rotation = text(format!("{output_max:?} {output_keep} {output_stamp}"));
    add_all("rotation", &[&rotation]);
    let mut variables: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    variables.sort_unstable();
    let variables = variables.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    add_all("environment", &variables.collect::<Vec<_>>());
    for (kind, value) in [("user", optional(user)), ("group", optional(group))] {
        add_all(kind, &value.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    add_all("umask", &[&text(format!("{umask:o}"))]);
    let mut limits: Vec<Vec<u8>> =
        rlimits.iter().map(|it| text(format!("{} {:?} {:?}", it.name(), it.soft, it.hard))).collect();
    limits.sort_unstable();
    add_all("rlimits", &limits.iter().map(Vec::as_slice).collect::<Vec<_>>());
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, config::Secret, host::fake::FakeHost};

    fn exec() -> Exec {
        Exec { command: vec!["/bin/web".to_owned(), "-v".to_owned()], ..Exec::default() }
    }

    fn running(processes: &ProcReader) -> RunningCommand {
        RunningCommand {
            process: processes.key_of(std::process::id()).unwrap(),
            scope: processes.pid_scope(),
            cgroup: None,
            program: "/bin/web".to_owned(),
            digest: digest(&exec()),
            stop_signal: Signal::INT.as_raw(),
            stop_timeout: Duration::from_secs(7),
            output: None,
        }
    }

    #[test]
    fn whatever_starts_it_otherwise_makes_it_another_command() {
        let of = |change: fn(&mut Exec)| {
            let mut exec = exec();
            change(&mut exec);
            digest(&exec)
        };
        let same = of(|exec| {
            exec.stop_signal = Signal::INT;
            exec.stop_timeout = Duration::from_secs(99);
        });
        assert_eq!(same, digest(&exec()));
        let variable = |exec: &mut Exec, name: &str, value: &str| {
            exec.environment.push((name.to_owned(), Secret::new(value.to_owned())));
        };
        let mut others = vec![
            of(|exec| exec.command = vec!["/bin/web-v".to_owned()]),
            of(|exec| exec.command.push(String::new())),
            of(|exec| exec.output = "/var/log/web".into()),
            of(|exec| exec.output_max = Some(1 << 20)),
            of(|exec| exec.output_stamp = true),
            of(|exec| exec.directory = "/srv".into()),
            of(|exec| exec.user = Some("www".to_owned())),
            of(|exec| exec.group = Some("www".to_owned())),
            of(|exec| exec.umask = 0o77),
        ];
        for (name, value) in [("A", "BC"), ("AB", "C")] {
            let mut exec = exec();
            variable(&mut exec, name, value);
            others.push(digest(&exec));
        }
        others.push(digest(&exec()));
        let count = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), count);
        assert!(others.iter().all(|digest| digest.len() == 64));
    }

    #[test]
    fn a_process_is_the_same_only_in_the_same_boot_namespace_and_start() {
        let processes = ProcReader::new("/").unwrap();
        let own = running(&processes);
        assert_eq!(own.standing("web", &processes), Standing::Runs);
        let earlier = ProcessKey { start: Timestamp::from_nanos(10_000_000), ..own.process };
        let reused = RunningCommand { process: earlier, ..own.clone() };
        assert_eq!(reused.standing("web", &processes), Standing::Ended, "its pid has another process");
        let scope = PidScope { boot_id: "other".to_owned(), ..own.scope.clone() };
        let booted = RunningCommand { scope, ..own.clone() };
        assert_eq!(booted.standing("web", &processes), Standing::Booted);
        let scope = PidScope { pid_namespace: Some(1), ..own.scope.clone() };
        let elsewhere = RunningCommand { scope, ..own.clone() };
        assert!(matches!(elsewhere.standing("web", &processes), Standing::Differs(_)));
        let cgroup = Some(Cgroup { id: 1, path: "/hostprobe-1-1/service-web".to_owned() });
        let moved = RunningCommand { cgroup, ..own };
        assert!(matches!(moved.standing("web", &processes), Standing::Differs(_)));
        assert_eq!(moved.made_cgroup("web", &processes), None);
    }

    #[test]
    fn a_process_that_proc_does_not_show_has_ended_only_if_there_is_none() {
        let host = FakeHost::v2();
        host.write("proc/sys/kernel/random/boot_id", b"b\n");
        host.link("proc/self/ns/pid", "pid:[1]");
        let processes = host.reader();
        let own = running(&ProcReader::new("/").unwrap());
        let own = RunningCommand { scope: processes.pid_scope(), ..own };
        assert!(matches!(own.standing("web", &processes), Standing::Differs(_)), "this very process");
        let process = ProcessKey { pid: i32::MAX.cast_unsigned(), ..own.process };
        let ended = RunningCommand { process, ..own };
        assert_eq!(ended.standing("web", &processes), Standing::Ended);
    }

    #[test]
    fn what_ends_a_command_is_known_without_its_configuration() {
        let own = running(&ProcReader::new("/").unwrap());
        let read: RunningCommand = serde_json::from_str(&serde_json::to_string(&own).unwrap()).unwrap();
        assert_eq!(read, own);
        let exec = read.exec();
        assert_eq!((exec.stop_signal, exec.stop_timeout), (Signal::INT, Duration::from_secs(7)));
        let odd = RunningCommand { stop_signal: -3, ..read };
        assert_eq!(odd.exec().stop_signal, Signal::TERM);
    }
}
