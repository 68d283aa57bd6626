//! Packets of the MySQL protocol, and what they consist of.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use super::failure::Error;
use crate::probe::bounded::Bounded;

/// The longest packet that is read. The longest that a probe asks for is a row with the names of a user and a host.
const PACKET_MAX: usize = 64 << 10;

/// The command that ends a session.
const COM_QUIT: u8 = 1;

/// A connection to a server, as a sequence of packets.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<Bounded>,
    /// The number of the next packet of an exchange.
    sequence: u8,
}

impl Wire {
    pub(super) fn new(stream: Bounded) -> Self {
        Self { stream: BufReader::new(stream), sequence: 0 }
    }

    /// The stream, for what encrypts it. A server has nothing to say meanwhile.
    pub(super) fn into_stream(self) -> Result<Bounded, Error> {
        if !self.stream.buffer().is_empty() {
            return Err(Error::Malformed("a packet while TLS was to begin"));
        }
        Ok(self.stream.into_inner())
    }

    /// Goes on over an encrypted stream.
    pub(super) fn goes_on(stream: Bounded, sequence: u8) -> Self {
        Self { stream: BufReader::new(stream), sequence }
    }

    pub(super) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// The payload of the next packet; an error packet is an error.
    pub(super) async fn read(&mut self) -> Result<Vec<u8>, Error> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [low, middle, high, sequence] = header;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > PACKET_MAX {
            return Err(Error::Malformed("a packet longer than any it is asked for"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        match payload.as_slice() {
            [] => Err(Error::Malformed("an empty packet")),
            [0xff, low, high, words @ ..] => {
                // Newer servers put an SQLSTATE of six characters before the words.
                let words =
                    if words.first() == Some(&b'#') { words.get(6..).unwrap_or_default() } else { words };
                let words = String::from_utf8_lossy(words).into_owned();
                Err(Error::Refused { code: u16::from_le_bytes([*low, *high]), words })
            }
            _ => Ok(payload),
        }
    }

    /// Sends a packet as the next of an exchange.
    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        let length =
            u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let [low, middle, high, _] = length.to_le_bytes();
        let mut packet = vec![low, middle, high, self.sequence];
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.stream.write_all(&packet).await?)
    }

    /// Sends a command, which begins an exchange.
    pub(super) async fn command(&mut self, code: u8, rest: &[u8]) -> Result<(), Error> {
        self.sequence = 0;
        self.write(&[&[code], rest].concat()).await
    }

    /// Says goodbye, and waits until the server has closed the connection.
    pub(super) async fn quit(mut self) -> Result<(), Error> {
        self.command(COM_QUIT, &[]).await?;
        self.closed().await
    }

    /// Waits until the server has closed the connection.
    pub(super) async fn closed(&mut self) -> Result<(), Error> {
        let mut rest = [0; 512];
        while self.stream.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

/// What is left to read of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'p>(pub(super) &'p [u8]);

impl<'p> Fields<'p> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'p [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        Some(*self.bytes(1)?.first()?)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(2)?.try_into().ok()?))
    }

    /// Bytes up to a zero, or to the end: some servers leave the last zero out.
    pub(super) fn until_zero(&mut self) -> &'p [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let part = self.0.get(..end.unwrap_or(self.0.len())).unwrap_or_default();
        self.0 = self.0.get(part.len() + 1..).unwrap_or_default();
        part
    }

    /// An integer with its length before it.
    pub(super) fn integer(&mut self) -> Option<u64> {
        let length = match self.byte()? {
            small @ ..=0xfa => return Some(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xfb | 0xff => return None,
        };
        let bytes = self.bytes(length)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A column of a row: a text with its length before it; None for NULL.
    pub(super) fn column(&mut self) -> Option<Option<String>> {
        if self.0.first() == Some(&0xfb) {
            self.byte()?;
            return Some(None);
        }
        let length = usize::try_from(self.integer()?).ok()?;
        Some(Some(String::from_utf8_lossy(self.bytes(length)?).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_columns_have_their_length_before_them() {
        let integer = |bytes: &[u8]| Fields(bytes).integer();
        assert_eq!(integer(&[0xfa]), Some(250));
        assert_eq!(integer(&[0xfc, 1, 2]), Some(0x201));
        assert_eq!(integer(&[0xfd, 1, 2, 3]), Some(0x3_0201));
        assert_eq!(integer(&[0xfe, 1, 0, 0, 0, 0, 0, 0, 0x80]), Some(1 | 1 << 63));
        assert_eq!(integer(&[0xfc, 1]), None);
        assert_eq!(integer(&[0xff]), None);
        let mut row = Fields(b"\x02ab\xfb\x00\xfe\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(row.column(), Some(Some("ab".to_owned())));
        assert_eq!(row.column(), Some(None));
        assert_eq!(row.column(), Some(Some(String::new())));
        assert_eq!(row.column(), None, "it is longer than its packet");
    }

    #[test]
    fn text_ends_at_a_zero_or_at_the_end() {
        let mut fields = Fields(b"8.0.40\0rest");
        assert_eq!(fields.until_zero(), b"8.0.40");
        assert_eq!(fields.until_zero(), b"rest");
        assert_eq!(fields.until_zero(), b"");
    }
}
