//! The step at which the start of a command failed, as the child reports it through a pipe.

use std::{fs, io, path::Path};

use crate::{account::AccountError, config::Exec, descriptors, untrusted_file};

/// What a child does before its exec, as far as an error should tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Cgroup,
    /// The session, descriptors and signals.
    Setup,
    /// The limit with this place in the plan.
    Limit(u8),
    Credentials,
    Directory,
    Exec,
}

/// A failed step and its errno. The child writes it in one piece (`pipe(7)`).
pub(super) type Report = [u8; 8];

impl Step {
    pub(super) fn report(self, errno: i32) -> Report {
        let (step, place) = match self {
            Self::Cgroup => (0, 0),
            Self::Setup => (1, 0),
            Self::Limit(place) => (2, place),
            Self::Credentials => (3, 0),
            Self::Directory => (4, 0),
            Self::Exec => (5, 0),
        };
        let [a, b, c, d] = errno.to_ne_bytes();
        [step, place, 0, 0, a, b, c, d]
    }

    pub(super) fn read(report: Report) -> (Self, io::Error) {
        let [step, place, _, _, a, b, c, d] = report;
        let step = match step {
            0 => Self::Cgroup,
            2 => Self::Limit(place),
            3 => Self::Credentials,
            4 => Self::Directory,
            5 => Self::Exec,
            _ => Self::Setup,
        };
        (step, io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d])))
    }
}

/// Why a command could not be started; in words that follow the command.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("{0}")]
    Account(AccountError),
    /// The command itself, or what every start takes.
    #[error("{0}")]
    Call(io::Error),
    /// The command is there, and what is to run it is not.
    #[error("{0}")]
    Interpreter(String),
    #[error("cannot enter its cgroup: {0}")]
    Cgroup(io::Error),
    #[error("cannot enter its directory {directory}: {source}")]
    Directory { directory: String, source: io::Error },
    #[error("cannot set its limit {name}: {source}{}", limit_hint(name, source))]
    Limit { name: &'static str, source: io::Error },
    #[error("cannot run as {account}: {source}{}", hint(source, "CAP_SETUID and CAP_SETGID for that"))]
    Credentials { account: String, source: io::Error },
    /// The user has as many processes as its limit allows (`setuid(2)`).
    #[error("{account} has too many processes; raise its limit nproc")]
    TooManyProcesses { account: String },
}

impl SpawnError {
    pub(super) fn of(step: Step, source: io::Error, exec: &Exec, limits: &[&'static str]) -> Self {
        match step {
            Step::Cgroup => Self::Cgroup(source),
            Step::Exec if exec.user.is_some() && source.raw_os_error() == Some(libc::EAGAIN) => {
                Self::TooManyProcesses { account: account(exec) }
            }
            Step::Exec if source.raw_os_error() == Some(libc::ENOENT) => {
                missing_interpreter(exec).map_or(Self::Call(source), Self::Interpreter)
            }
            Step::Setup | Step::Exec => Self::Call(source),
            Step::Limit(place) => {
                Self::Limit { name: limits.get(usize::from(place)).copied().unwrap_or_default(), source }
            }
            Step::Credentials => Self::Credentials { account: account(exec), source },
            Step::Directory => Self::Directory { directory: exec.directory.display().to_string(), source },
        }
    }

    /// The error of a call that failed because the daemon, or the host, lacks something.
    pub fn shortage(&self) -> Option<&io::Error> {
        match self {
            Self::Call(error) | Self::Cgroup(error) => {
                Some(error).filter(|error| descriptors::is_shortage(error))
            }
            Self::Account(AccountError::Lookup { source, .. }) => {
                Some(source).filter(|error| descriptors::is_shortage(error))
            }
            Self::Account(_)
            | Self::Interpreter(_)
            | Self::Directory { .. }
            | Self::Limit { .. }
            | Self::Credentials { .. }
            | Self::TooManyProcesses { .. } => None,
        }
    }
}

/// Why exec finds no file although the program is there (`execve(2)`).
fn missing_interpreter(exec: &Exec) -> Option<String> {
    // A script is shorter. Of a longer program, the kernel seeks the loader.
    const SCRIPT_MAX: u64 = 1 << 20;
    let program = Path::new(exec.command.first()?);
    fs::metadata(program).ok()?;
    let script = untrusted_file::read(program, SCRIPT_MAX).unwrap_or_default();
    let line = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(line) = line.strip_prefix(b"#!") else {
        return Some("the loader that it needs does not exist (readelf -l names it)".to_owned());
    };
    let line = String::from_utf8_lossy(line);
    let interpreter: String = line
        .trim_start_matches([' ', '\t'])
        .split([' ', '\t'])
        .next()
        .unwrap_or_default()
        .chars()
        .take(256)
        .collect();
    Some(match interpreter.strip_suffix('\r') {
        Some(path) => format!(
            "its first line names the interpreter {path} and ends with CR LF, as of Windows; expected LF alone"
        ),
        None => format!("its interpreter {interpreter}, which its first line names, does not exist"),
    })
}

fn account(exec: &Exec) -> String {
    match (&exec.user, &exec.group) {
        (Some(user), Some(group)) => format!("the user {user} and the group {group}"),
        (Some(user), None) => format!("the user {user}"),
        (None, group) => format!("the group {}", group.as_deref().unwrap_or_default()),
    }
}

/// What to do about a limit that the kernel does not set.
fn limit_hint(name: &str, error: &io::Error) -> String {
    let mut hint = hint(error, "CAP_SYS_RESOURCE to raise a hard limit");
    // Nobody may have more descriptors than this (`setrlimit(2)`).
    if let Ok(most) = fs::read_to_string("/proc/sys/fs/nr_open")
        && name == "nofile"
        && !hint.is_empty()
    {
        hint.push_str(&format!(", and no limit may be above the sysctl fs.nr_open ({})", most.trim()));
    }
    hint
}

/// What to do about a missing right.
fn hint(error: &io::Error, needs: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            format!("; hostprobe needs {needs}: under systemd, install its drop-in exec.conf")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_lacks_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let said = |script: Option<&[u8]>| {
            let path = folder.path().join("check");
            let _ = fs::remove_file(&path);
            script.inspect(|script| fs::write(&path, script).unwrap());
            let exec = Exec { command: vec![path.display().to_string()], ..Exec::default() };
            SpawnError::of(Step::Exec, io::Error::from_raw_os_error(libc::ENOENT), &exec, &[]).to_string()
        };
        let names_it = "its interpreter /no/python3, which its first line names, does not exist";
        assert_eq!(said(Some(b"#!/no/python3 -u\nprint()\n")), names_it);
        assert_eq!(said(Some(b"#! /no/python3")), names_it);
        assert!(
            said(Some(b"#!/bin/sh\r\nexit 0\r\n"))
                .starts_with("its first line names the interpreter /bin/sh and")
        );
        assert!(said(Some(b"\x7fELF\x02")).starts_with("the loader that it needs does not exist"));
        assert_eq!(said(None), "No such file or directory (os error 2)");
    }

    #[test]
    fn a_report_says_what_failed_and_what_to_do() {
        let exec = Exec { user: Some("www-data".to_owned()), directory: "/srv".into(), ..Exec::default() };
        let said = |step: Step, errno| {
            let (step, source) = Step::read(step.report(errno));
            SpawnError::of(step, source, &exec, &["core", "nofile"]).to_string()
        };
        assert_eq!(said(Step::Exec, libc::ENOENT), "No such file or directory (os error 2)");
        assert_eq!(
            said(Step::Directory, libc::ENOENT),
            "cannot enter its directory /srv: No such file or directory (os error 2)"
        );
        assert_eq!(
            said(Step::Credentials, libc::EPERM),
            "cannot run as the user www-data: Operation not permitted (os error 1); hostprobe needs CAP_SETUID and \
             CAP_SETGID for that: under systemd, install its drop-in exec.conf"
        );
        assert!(said(Step::Limit(1), libc::EINVAL).starts_with("cannot set its limit nofile: Invalid"));
        assert!(said(Step::Exec, libc::EAGAIN).contains("too many processes"));
        let lacks = |step| SpawnError::of(step, io::Error::from_raw_os_error(libc::EAGAIN), &exec, &[]);
        assert!(lacks(Step::Setup).shortage().is_some() && lacks(Step::Exec).shortage().is_none());
    }
}
