//! The sink of the configured output.

use std::{path::PathBuf, time::Duration};

use super::{destination::QueueLimits, error::SinkError, file, sink::Sink, stdout::Descriptor};
use crate::{bounded_thread, config::EventOutput, rotated_file::RotatedFile};

/// How long the file of the events may take to open: its file system may not answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn open_output(output: &EventOutput) -> Result<Sink, SinkError> {
    match output {
        EventOutput::Stdout => {
            let stdout = Descriptor::stdout().map_err(|source| SinkError::Stdout { source })?;
            Sink::spawn(stdout, QueueLimits::default())
        }
        EventOutput::File(path) => Sink::spawn(open_file(path.clone()).await?, QueueLimits::default()),
    }
}

async fn open_file(path: PathBuf) -> Result<RotatedFile, SinkError> {
    let opens = path.clone();
    let opened = bounded_thread::answer("open", PATIENCE, move || file::open(&opens)).await;
    opened.map_err(|source| SinkError::Hangs { path, source })?
}
