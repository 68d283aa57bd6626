//! Reads a stream line by line, with any content.

use std::io::{self, BufRead};

use super::{MAX_LINE, wire};

/// Calls `take` for each line of a stream with its number from 1. None is a line that is longer than any line of
/// hostprobe. Skips empty lines. Fails only on a read error.
pub fn for_each_line(mut stream: impl BufRead, mut take: impl FnMut(u64, Option<&[u8]>)) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut read = 0;
        loop {
            let chunk = match stream.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            // Only enough of a line is kept to show that it is too long.
            if line.len() <= MAX_LINE {
                line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
            }
            stream.consume(taken);
            read += taken;
            if end.is_some() || taken == 0 {
                break;
            }
        }
        if read == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            take(number, (line.len() <= MAX_LINE).then_some(&line));
        }
    }
    Ok(())
}

/// The same for events: None for a line that is not an event.
pub fn for_each_event(
    stream: impl BufRead,
    mut take: impl FnMut(u64, Option<wire::Record>),
) -> io::Result<()> {
    for_each_line(stream, |number, line| {
        take(number, line.and_then(|line| serde_json::from_slice(line).ok()));
    })
}
