//! The number of the process that a server announces at a login.
//!
//! The client library keeps it to itself, so the stream below it reads along until the login is over.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::probe::bounded::Bounded;

const BACKEND_KEY_DATA: u8 = b'K';
const READY_FOR_QUERY: u8 = b'Z';

/// A message's tag and its length.
const HEADER: usize = 5;

/// A stream that reads along.
#[derive(Debug)]
pub(super) struct Startup {
    stream: Bounded,
    reader: Reader,
}

/// The announced process; zero until it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced(Arc<AtomicI32>);

impl Announced {
    pub(super) fn process(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|process| *process != 0)
    }
}

#[derive(Debug, Default)]
struct Reader {
    announced: Announced,
    /// The beginning of the message at hand: its header and the first number in it.
    begun: Vec<u8>,
    /// So many bytes of the message are still to come after that.
    skip: usize,
    is_over: bool,
}

impl Startup {
    pub(super) fn new(stream: Bounded) -> (Self, Announced) {
        let reader = Reader::default();
        let announced = reader.announced.clone();
        (Self { stream, reader }, announced)
    }
}

impl Reader {
    fn read(&mut self, mut bytes: &[u8]) {
        while !self.is_over && !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.begun.push(byte);
            self.look();
        }
    }

    /// Looks at the message that has begun, and goes on to the next once enough of it is there.
    fn look(&mut self) {
        let [tag, a, b, c, d, body @ ..] = self.begun.as_slice() else { return };
        // The length counts itself.
        let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_add(1).max(HEADER);
        let wanted = if *tag == BACKEND_KEY_DATA { length.min(HEADER + 4) } else { HEADER };
        if self.begun.len() < wanted {
            return;
        }
        if *tag == BACKEND_KEY_DATA
            && let [a, b, c, d] = body
        {
            self.announced.0.store(i32::from_be_bytes([*a, *b, *c, *d]), Ordering::Relaxed);
        }
        self.is_over = *tag == READY_FOR_QUERY;
        self.skip = length.saturating_sub(self.begun.len());
        self.begun.clear();
    }
}

impl AsyncRead for Startup {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.reader.read(buffer.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for Startup {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A login's answer: let in, two settings, the process 4711 and its key, ready.
    const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x09K\0K\0\0S\0\0\0\x05\0K\0\0\0\x0c\0\0\x12\x67\xaa\xbb\xcc\xddZ\0\0\0\x05I\
        K\0\0\0\x0c\0\0\0\x01\0\0\0\0";

    #[test]
    fn the_process_is_found_however_the_bytes_are_cut() {
        for part in 1..LOGIN.len() {
            let mut reader = Reader::default();
            for bytes in LOGIN.chunks(part) {
                reader.read(bytes);
            }
            assert_eq!(reader.announced.process(), Some(4711), "in parts of {part}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_end_nowhere_else() {
        for bytes in [&b"K\0\0\0\0\0\0"[..], b"S\xff\xff\xff\xff\0K\0\0\0\x0c\0\0\0\x01", b"K\0\0\0\x05\x01Z"]
        {
            let mut reader = Reader::default();
            reader.read(bytes);
            assert_eq!(reader.announced.process(), None, "{bytes:?}");
        }
    }
}
