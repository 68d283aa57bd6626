//! Restart by a configured command: an absolute path with its arguments, no shell.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// A restart command that runs longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much of what a failed command says on standard error is passed on, in bytes.
const COMPLAINT: usize = 400;

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
        .kill_on_drop(true)
        .spawn();
    let mut child = started.map_err(|source| CommandError::Start { command: command.clone(), source })?;
    let mut stderr = child.stderr.take();
    let run = async {
        let mut complaint = vec![0; COMPLAINT];
        let heard = match &mut stderr {
            // Only what it says first is read: a daemon that it leaves behind may hold the pipe for ever.
            Some(stderr) => stderr.read(&mut complaint).await.unwrap_or(0),
            None => 0,
        };
        complaint.truncate(heard);
        (child.wait().await, complaint)
    };
    match timeout(TIMEOUT, run).await {
        Err(_) => Err(CommandError::Timeout { command }),
        Ok((Err(source), _)) => Err(CommandError::Start { command, source }),
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), complaint)) => {
            let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
            Err(CommandError::Failed { command, status, complaint })
        }
    }
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
        assert!(failed.contains("/bin/ls ended with exit status: 2") && failed.contains("No such file"), "{failed}");
        let missing = run(&argv(&["/nonexistent"])).await.unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent could not be started: No such file"), "{missing}");
    }
}
