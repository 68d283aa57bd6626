//! Standard error as the place of the log: a reader that does not read loses lines, and does not stop the daemon.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::PIPE_BUF,
};

/// Lines that were lost since a line about that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes to a descriptor as long as there is room.
#[derive(Debug)]
pub struct Unhurried<T>(pub T);

impl<T: AsFd + Write> Write for Unhurried<T> {
    /// Takes a line. A pipe with room takes as much as [`PIPE_BUF`] without a wait (`pipe(7)`).
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for (at, part) in line.chunks(PIPE_BUF).enumerate() {
            if !has_room(&self.0) {
                LOST.fetch_add(1, Ordering::Relaxed);
                return Ok(line.len());
            }
            if at == 0 {
                self.tell_of_loss()?;
            }
            self.0.write_all(part)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<T: AsFd + Write> Unhurried<T> {
    fn tell_of_loss(&mut self) -> io::Result<()> {
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(self.0, "<4>log: {lost} lines were lost, because standard error was not read in time")?;
        }
        Ok(())
    }
}

fn has_room(descriptor: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::OUT)];
    // An error is for the write to find.
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|_| !polled[0].revents().is_empty())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn a_log_that_is_not_read_loses_lines_and_says_how_many() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = Unhurried(File::from(std::os::fd::OwnedFd::from(writer)));
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..100 {
            assert_eq!(log.write(&line).unwrap(), line.len(), "it does not wait");
        }
        let mut read = vec![0; 1 << 20];
        let first = reader.read(&mut read).unwrap();
        log.write_all(b"after\n").unwrap();
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lost = 100 - first / line.len();
        assert!(text.contains(&format!("{lost} lines were lost")) && text.ends_with("after\n"), "{text}");
    }
}
