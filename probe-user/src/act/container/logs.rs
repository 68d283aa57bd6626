//! The last lines that a container wrote.
//!
//! Without a terminal, an engine frames what it sends: a byte for the stream, three zeros, and the length in four bytes,
//! most significant first (`application/vnd.docker.multiplexed-stream`).

use super::{engine::Engine, error::EngineError};

/// The most lines, and the most bytes of all lines together.
const LINES: usize = 20;
const BYTES: usize = 4096;

/// A container may write lines of any length. Of more than this, the end is not read.
const READ_MAX: usize = 64 << 10;

/// The head of a frame.
const HEAD: usize = 8;

pub(super) async fn last_lines(engine: &Engine, name: &str) -> Result<Vec<String>, EngineError> {
    let sent = engine.last_output(name, LINES, READ_MAX).await?;
    Ok(lines(&unframed(&sent)))
}

/// What is in the frames, or all of it if there are none.
fn unframed(sent: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = sent;
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let [stream, 0, 0, 0, length @ ..] = head else { return sent.to_vec() };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return sent.to_vec() };
        if *stream > 2 {
            return sent.to_vec();
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let (part, after) = after.split_at(length.min(after.len()));
        text.extend_from_slice(part);
        rest = after;
    }
    text
}

/// The last lines, as far as there is room, oldest first.
fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let (mut found, mut room) = (Vec::new(), BYTES);
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()).take(LINES) {
        let kept = &line[..line.floor_char_boundary(room)];
        room -= kept.len();
        if !kept.is_empty() {
            found.push(kept.to_owned());
        }
        if kept.len() < line.len() {
            break;
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], length.as_slice(), text.as_bytes()].concat()
    }

    #[test]
    fn frames_of_both_streams_are_read_in_their_order() {
        let sent = [frame(1, "one\n"), frame(2, "two\n"), frame(1, "")].concat();
        assert_eq!(lines(&unframed(&sent)), ["one", "two"]);
        assert_eq!(lines(&unframed(b"of a terminal\r\nas it is")), ["of a terminal", "as it is"]);
    }

    #[test]
    fn wrong_frames_and_endless_lines_are_bounded() {
        let mut cut = frame(1, "whole\nbegun");
        cut[7] = 255;
        assert_eq!(lines(&unframed(&cut)), ["whole", "begun"]);
        assert_eq!(lines(&unframed(&[1, 0, 0])), [""; 0]);
        let many: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(lines(many.as_bytes()).len(), LINES);
        let bytes: usize = lines("é".repeat(READ_MAX).as_bytes()).iter().map(String::len).sum();
        assert!(bytes <= BYTES, "{bytes}");
        assert_eq!(lines(&[0xff, 0xfe, b'\n']).len(), 1);
    }
}
