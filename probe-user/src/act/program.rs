//! Runs a program of the operator's to its end: an absolute path with its arguments, no shell, a time limit.

use std::{
    fs::{File, OpenOptions},
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Signal, kill_process_group, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, Command},
    sync::oneshot,
    time::timeout,
};

use crate::{descriptors, host::OwnCgroup};

/// The reported part of a failed program's standard error, in bytes.
const STDERR_MAX: u64 = 400;

/// The wait for the rest of standard error after the program has ended.
const STDERR_TIMEOUT: Duration = Duration::from_millis(100);

/// A program, and what bounds it.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    pub argv: &'a [String],
    /// What it reads from its standard input.
    pub input: Option<Vec<u8>>,
    pub time_limit: Duration,
    /// It runs in this cgroup.
    pub cgroup: Option<&'a OwnCgroup>,
}

#[derive(Debug)]
pub enum ProgramError {
    Start(io::Error),
    /// It still ran after its time limit and was killed with its process group.
    Timeout,
}

impl Program<'_> {
    /// Runs it to its end: how it ended, and the beginning of its standard error. Its environment has only a plain `PATH`.
    pub async fn run(self) -> Result<(ExitStatus, String), ProgramError> {
        let mut program = Command::new(self.argv.first().map_or("", String::as_str));
        program
            .args(self.argv.get(1..).unwrap_or_default())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let limit = descriptors::inherited();
        let enter = self.cgroup.map(|cgroup| OpenOptions::new().write(true).open(cgroup.procs_file()));
        let enter: Option<File> = enter.transpose().map_err(ProgramError::Start)?;
        let prepare = move || {
            if let Some(limit) = limit {
                setrlimit(Resource::Nofile, limit)?;
            }
            if let Some(procs) = &enter {
                // Writing "0" moves the writer (`cgroups(7)`).
                rustix::io::write(procs, b"0")?;
            }
            Ok(())
        };
        // SAFETY: `prlimit(2)` and `write(2)` may be called between fork and exec, and nothing is allocated.
        unsafe { program.pre_exec(prepare) };
        let started = descriptors::reserved(|| program.spawn(), descriptors::is_exhausted);
        let mut child = started.map_err(ProgramError::Start)?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let (Some(pipe), Some(input)) = (child.stdin.take(), self.input) {
            write_stdin(pipe, input);
        }
        let stderr = child.stderr.take().map(read_stderr);
        let run = async {
            let status = child.wait().await;
            let stderr = match stderr {
                Some(text) => {
                    timeout(STDERR_TIMEOUT, text).await.ok().and_then(Result::ok).unwrap_or_default()
                }
                None => Vec::new(),
            };
            (status, stderr)
        };
        match timeout(self.time_limit, run).await {
            Err(_) => {
                // Its children are in its group and end with it.
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                Err(ProgramError::Timeout)
            }
            Ok((Err(source), _)) => Err(ProgramError::Start(source)),
            Ok((Ok(status), stderr)) => Ok((status, String::from_utf8_lossy(&stderr).trim().to_owned())),
        }
    }
}

/// Feeds a program that may not read, or not all of it.
fn write_stdin(mut pipe: ChildStdin, input: Vec<u8>) {
    tokio::spawn(async move {
        // A program need not read its input. Its end closes the pipe.
        let _ = pipe.write_all(&input).await;
    });
}

/// Reads the beginning of a program's standard error, and drains the rest: a daemon that the program leaves behind
/// may hold the pipe for ever.
fn read_stderr(mut pipe: ChildStderr) -> oneshot::Receiver<Vec<u8>> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let mut text = Vec::new();
        // A failed read, or a caller that has stopped waiting, is no failure of the program.
        let _ = (&mut pipe).take(STDERR_MAX).read_to_end(&mut text).await;
        let _ = sender.send(text);
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    });
    receiver
}
