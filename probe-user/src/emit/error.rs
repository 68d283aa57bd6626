//! Why a sink cannot be set up.

use std::{io, path::PathBuf};

use crate::{bounded_thread::NoAnswer, untrusted_file::FileError};

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{0}: cannot write events to this file; create its folder or change events.output")]
    Refused(FileError),
    #[error("{}: cannot open this file: {source}; its file system may not answer: change events.output", path.display())]
    Hangs { path: PathBuf, source: NoAnswer },
    #[error("standard output: cannot write events: {source}; set events.output to a file")]
    Stdout { source: io::Error },
    #[error("the thread that writes events could not start: {source}; raise the limit on tasks")]
    Thread { source: io::Error },
}
