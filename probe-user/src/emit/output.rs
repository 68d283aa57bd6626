//! The sink of the configured output.

use super::{destination::QueueLimits, error::SinkError, file::EventFile, sink::Sink, stdout::Descriptor};
use crate::config::EventOutput;

pub fn open_output(output: &EventOutput) -> Result<Sink, SinkError> {
    match output {
        EventOutput::Stdout => {
            let stdout = Descriptor::stdout().map_err(|source| SinkError::Stdout { source })?;
            Sink::spawn(stdout, QueueLimits::default())
        }
        EventOutput::File(path) => Sink::spawn(EventFile::open(path)?, QueueLimits::default()),
    }
}
