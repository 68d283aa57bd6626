//! Restart by a configured command: an absolute path with its arguments, no shell.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, Command},
    sync::oneshot,
    time::timeout,
};

/// A restart command that runs longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much of what a failed command says on standard error is passed on, in bytes.
const COMPLAINT: u64 = 400;

/// How long the end of it may take to arrive once the command has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a restart command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{command} could not be started: {source}")]
    Start {
        /// The program.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("{command} ended with {status}: {complaint}")]
    Failed {
        /// The program.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it said on standard error.
        complaint: String,
    },
    /// It ran too long, and was killed.
    #[error("{command} was killed after {} s without an end", TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        command: String,
    },
}

/// Runs `argv` to its end, with an empty environment but for a plain `PATH` for its own children.
pub async fn run(argv: &[String]) -> Result<(), CommandError> {
    let command = argv.first().cloned().unwrap_or_default();
    let started = Command::new(&command)
        .args(argv.get(1..).unwrap_or_default())
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = started.map_err(|source| CommandError::Start { command: command.clone(), source })?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let complaint = child.stderr.take().map(listen);
    let run = async {
        let status = child.wait().await;
        let heard = match complaint {
            Some(heard) => timeout(LAST_WORDS, heard).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => Vec::new(),
        };
        (status, heard)
    };
    match timeout(TIMEOUT, run).await {
        Err(_) => {
            // What it started is of its group, and goes with it.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(CommandError::Timeout { command })
        }
        Ok((Err(source), _)) => Err(CommandError::Start { command, source }),
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), complaint)) => {
            let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
            Err(CommandError::Failed { command, status, complaint })
        }
    }
}

/// Reads what a command says first, and lets it say the rest to nobody: a daemon that it leaves behind may
/// hold the pipe for ever.
fn listen(mut stderr: ChildStderr) -> oneshot::Receiver<Vec<u8>> {
    let (heard, complaint) = oneshot::channel();
    tokio::spawn(async move {
        let mut text = Vec::new();
        // What cannot be read of a complaint, or is read by nobody any more, is no failure of the command.
        let _ = (&mut stderr).take(COMPLAINT).read_to_end(&mut text).await;
        let _ = heard.send(text);
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    });
    complaint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_command_succeeds_fails_or_is_missing() {
        assert!(run(&argv(&["/bin/true"])).await.is_ok());
        let failed = run(&argv(&["/bin/ls", "/nonexistent"])).await.unwrap_err().to_string();
        assert!(
            failed.contains("/bin/ls ended with exit status: 2") && failed.contains("No such file"),
            "{failed}"
        );
        let missing = run(&argv(&["/nonexistent"])).await.unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent could not be started: No such file"), "{missing}");
    }
}
