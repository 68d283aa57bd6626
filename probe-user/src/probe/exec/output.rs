//! What a plugin writes: the first line is for people, what follows a `|` is performance data.

use std::io;

use tokio::net::unix::pipe;

/// The part of the output that is kept. Nagios reads as much of a line.
const KEPT: usize = 4096;

/// A program that writes more does not end by itself: the rest is not read.
const MOST: usize = 1 << 20;

/// The part of the first line that is shown.
const SHOWN: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Output {
    begin: Vec<u8>,
    length: usize,
}

impl Output {
    /// Reads until the end of the output, or until it is too long.
    pub(super) async fn read(&mut self, pipe: &pipe::Receiver) -> io::Result<()> {
        while self.length < MOST {
            pipe.readable().await?;
            if self.read_now(|part| pipe.try_read(part))? {
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it writes without end"))
    }

    /// Reads what there is, by a call that does not block. True at the end of the output.
    pub(super) fn read_now(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let mut part = [0; 4096];
        while self.length < MOST {
            match read(&mut part) {
                Ok(0) => return Ok(true),
                Ok(length) => {
                    let room = KEPT - self.begin.len();
                    self.begin.extend_from_slice(&part[..length.min(room)]);
                    self.length += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The first line with text, without performance data.
    pub(super) fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.begin);
        let lines = text.lines().map(|line| line.split('|').next().unwrap_or_default().trim());
        let mut line = lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        line.truncate(line.floor_char_boundary(SHOWN));
        line
    }
}

#[cfg(any(test, fuzzing))]
impl Output {
    pub(super) fn of(text: &[u8]) -> Self {
        Self { begin: text.to_vec(), length: text.len() }
    }
}

/// The line that a plugin's output is shown by.
#[cfg(fuzzing)]
pub fn first_line(output: &[u8]) -> String {
    Output::of(&output[..output.len().min(KEPT)]).first_line()
}
