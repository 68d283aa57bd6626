//! Why a sink cannot be set up.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{}: cannot write events to this file: {source}; create its folder or change events.output", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("standard output: cannot write events: {source}; set events.output to a file")]
    Stdout { source: io::Error },
    #[error("the thread that writes events could not start: {source}; raise the limit on tasks")]
    Thread { source: io::Error },
}
