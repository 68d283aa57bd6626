//! The sinks of the configured outputs.

use std::{path::PathBuf, time::Duration};

use super::{
    destination::QueueLimits, error::SinkError, file, journald::Journal, sink::Sink, socket::Socket,
    stdout::Descriptor,
};
use crate::{
    bounded_thread,
    config::EventOutput,
    rotated_file::{RotatedFile, Rotation},
};

/// How long the file of the events may take to open: its file system may not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens all of them; files rotate alike. One that another process listens on need not be there yet.
pub async fn open_outputs(outputs: &[EventOutput], rotation: Rotation) -> Result<Vec<Sink>, SinkError> {
    let mut sinks = Vec::with_capacity(outputs.len());
    for output in outputs {
        sinks.push(open(output, rotation).await?);
    }
    Ok(sinks)
}

async fn open(output: &EventOutput, rotation: Rotation) -> Result<Sink, SinkError> {
    let limits = QueueLimits::default();
    match output {
        EventOutput::Stdout => {
            let stdout = Descriptor::stdout().map_err(|source| SinkError::Stdout { source })?;
            Sink::spawn(stdout, limits)
        }
        EventOutput::File(path) => Sink::spawn(open_file(path.clone(), rotation).await?, limits),
        EventOutput::Unix(_) | EventOutput::Tcp { .. } => Sink::spawn(Socket::new(output.clone()), limits),
        EventOutput::Journald => Sink::spawn(Journal::default(), limits),
    }
}

async fn open_file(path: PathBuf, rotation: Rotation) -> Result<RotatedFile, SinkError> {
    let opens = path.clone();
    let opened = bounded_thread::answer("open", PATIENCE, move || file::open(&opens, rotation)).await;
    opened.map_err(|source| SinkError::Hangs { path, source })?
}
