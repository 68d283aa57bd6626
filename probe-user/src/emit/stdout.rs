//! Standard output as a destination.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
};

use super::destination::Destination;

/// An open descriptor, written without a buffer.
#[derive(Debug)]
pub struct Descriptor {
    file: File,
    name: &'static str,
}

impl Descriptor {
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?, "stdout"))
    }

    pub fn new(descriptor: OwnedFd, name: &'static str) -> Self {
        Self { file: File::from(descriptor), name }
    }
}

impl Destination for Descriptor {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.file.write(lines)
    }

    fn stream(&self) -> Option<OwnedFd> {
        let kind = self.file.metadata().ok()?.file_type();
        (kind.is_fifo() || kind.is_socket()).then(|| self.file.try_clone().ok().map(OwnedFd::from))?
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::emit::{destination::QueueLimits, sink::Sink};

    #[test]
    fn a_line_reaches_the_other_end_of_a_pipe() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::spawn(Descriptor::new(writer.into(), "pipe"), QueueLimits::default()).unwrap();
        sink.push(b"{}\n");
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert_eq!(line, "{}\n");
    }

    #[test]
    fn a_late_reader_gets_every_line_whole_and_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Sink::spawn(Descriptor::new(writer.into(), "pipe"), QueueLimits::default()).unwrap();
        // Together more than a pipe holds, and each more than a pipe takes atomically.
        let lines: Vec<_> = (0..100).map(|number| format!("{number}{}\n", "x".repeat(5000))).collect();
        lines.iter().for_each(|line| sink.push(line.as_bytes()));
        assert!(sink.waiting() > 0, "the pipe has taken everything");
        let reading = thread::spawn(move || io::read_to_string(&mut reader).unwrap());
        assert_eq!(sink.shutdown(Duration::from_secs(20)), 0);
        assert_eq!(reading.join().unwrap(), lines.concat());
    }

    #[test]
    fn a_pipe_without_a_reader_loses_lines_and_nothing_else() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = Sink::spawn(Descriptor::new(writer.into(), "pipe"), QueueLimits::default()).unwrap();
        sink.push(b"{}\n");
        sink.push(b"{}\n");
        assert_eq!(sink.shutdown(Duration::from_secs(20)), 2);
    }
}
