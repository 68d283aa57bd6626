//! Restart by a configured command: an absolute path with its arguments, no shell.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Resource, Signal, kill_process_group, setrlimit};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, Command},
    sync::oneshot,
    time::timeout,
};

use crate::descriptors;

/// A restart command that runs longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The reported part of a failed command's standard error, in bytes.
const STDERR_MAX: u64 = 400;

/// The wait for the rest of standard error after the command has ended.
const STDERR_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{command}: could not start: {source}")]
    Start { command: String, source: std::io::Error },
    #[error("{command}: ended with {status}: {stderr}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        /// The beginning of its standard error.
        stderr: String,
    },
    #[error("{command}: still ran after {} s, so the daemon killed it", TIMEOUT.as_secs())]
    Timeout { command: String },
}

impl CommandError {
    /// Whether the daemon lacked descriptors, memory or threads for the start.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Start { source, .. } => descriptors::is_shortage(source),
            Self::Failed { .. } | Self::Timeout { .. } => false,
        }
    }
}

/// Runs `argv` to its end. Its environment has only a plain `PATH`.
pub async fn run(argv: &[String]) -> Result<(), CommandError> {
    let command = argv.first().cloned().unwrap_or_default();
    let mut program = Command::new(&command);
    program
        .args(argv.get(1..).unwrap_or_default())
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(limit) = descriptors::inherited() {
        let set = move || Ok(setrlimit(Resource::Nofile, limit)?);
        // SAFETY: `prlimit(2)` may be called between fork and exec, and nothing is allocated.
        unsafe { program.pre_exec(set) };
    }
    let started = descriptors::reserved(|| program.spawn(), descriptors::is_exhausted);
    let mut child = started.map_err(|source| CommandError::Start { command: command.clone(), source })?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let stderr = child.stderr.take().map(read_stderr);
    let run = async {
        let status = child.wait().await;
        let stderr = match stderr {
            Some(text) => timeout(STDERR_TIMEOUT, text).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => Vec::new(),
        };
        (status, stderr)
    };
    match timeout(TIMEOUT, run).await {
        Err(_) => {
            // Its children are in its group and end with it.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(CommandError::Timeout { command })
        }
        Ok((Err(source), _)) => Err(CommandError::Start { command, source }),
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), stderr)) => {
            let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
            Err(CommandError::Failed { command, status, stderr })
        }
    }
}

/// Reads the beginning of a command's standard error, and drains the rest: a daemon that the command leaves behind
/// may hold the pipe for ever.
fn read_stderr(mut pipe: ChildStderr) -> oneshot::Receiver<Vec<u8>> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let mut text = Vec::new();
        // A failed read, or a caller that has stopped waiting, is no failure of the command.
        let _ = (&mut pipe).take(STDERR_MAX).read_to_end(&mut text).await;
        let _ = sender.send(text);
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_failed_command_reports_the_reason() {
        assert!(run(&argv(&["/bin/true"])).await.is_ok());
        let failed = run(&argv(&["/bin/ls", "/nonexistent"])).await.unwrap_err().to_string();
        assert!(
            failed.contains("/bin/ls: ended with exit status: 2") && failed.contains("No such file"),
            "{failed}"
        );
        let missing = run(&argv(&["/nonexistent"])).await.unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent: could not start: No such file"), "{missing}");
    }
}
