//! Restart by a configured command: an absolute path with its arguments, no shell.

use std::time::Duration;

use super::program::{Program, ProgramError};
use crate::descriptors;

/// A restart command that runs longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

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
    match (Program { argv, input: None, time_limit: TIMEOUT, cgroup: None }).run().await {
        Err(ProgramError::Start(source)) => Err(CommandError::Start { command, source }),
        Err(ProgramError::Timeout) => Err(CommandError::Timeout { command }),
        Ok((status, _)) if status.success() => Ok(()),
        Ok((status, stderr)) => Err(CommandError::Failed { command, status, stderr }),
    }
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
