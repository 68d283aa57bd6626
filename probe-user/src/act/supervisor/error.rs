//! Why a command was not started.

use std::io;

use super::output::OutputError;
use crate::{bounded_thread::NoAnswer, descriptors, spawn::SpawnError};

#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("{0}")]
    Output(OutputError),
    #[error(
        "{command}: has not started: {source}; the file system of the command, of its directory or of its output \
         {output} may not answer"
    )]
    Hangs { command: String, output: String, source: NoAnswer },
    /// The thread of an earlier start is still there.
    #[error(
        "{command}: an earlier start has not ended; the file system of its output {output} may not answer"
    )]
    HangsStill { command: String, output: String },
    #[error("{command}: {source}")]
    Spawn { command: String, source: SpawnError },
    /// It ended before the daemon could read its start time.
    #[error("{command}: pid {pid} ended at once")]
    Gone { command: String, pid: u32 },
}

impl SupervisorError {
    /// Whether the daemon lacks descriptors, memory or threads.
    pub(super) fn is_shortage(&self) -> bool {
        self.shortage().is_some()
    }

    /// Whether the daemon has no descriptors left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.shortage().is_some_and(descriptors::is_exhausted)
    }

    /// The error of what the daemon lacks.
    fn shortage(&self) -> Option<&io::Error> {
        let error = match self {
            Self::Spawn { source, .. } => return source.shortage(),
            Self::Output(error) => error.failed_call()?,
            Self::Hangs { source: NoAnswer::Thread(error), .. } => error,
            Self::Hangs { .. } | Self::HangsStill { .. } | Self::Gone { .. } => return None,
        };
        Some(error).filter(|error| descriptors::is_shortage(error))
    }
}
