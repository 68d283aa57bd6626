//! Reads fields of a record.

use probe_abi as abi;

use crate::sensor::record::Cgroups;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a record of {have} bytes ends before its field at {offset}")]
    Short { have: usize, offset: usize },
    #[error("unknown kind of record {0}")]
    Kind(u32),
    /// The record's length differs from that of its kind, or from its own header.
    #[error("a record of kind {kind} has {have} bytes and says {says}, not {want}")]
    Size { kind: u32, have: usize, says: u32, want: usize },
    #[error("a text of {length} bytes in a buffer of {room}")]
    Length { length: u32, room: usize },
    #[error("unknown address family {0}")]
    Family(u16),
    #[error("unknown direction {0}")]
    Direction(u8),
    #[error("a stop without its signal")]
    NoSignal,
}

/// In fields that are never 0, 0 means that the value is not known.
pub fn nonzero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// A record as it came from a ring.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], DecodeError> {
        let short = DecodeError::Short { have: self.0.len(), offset };
        self.0.get(offset..).and_then(|it| it.first_chunk()).copied().ok_or(short)
    }

    pub fn u16(&self, offset: usize) -> Result<u16, DecodeError> {
        self.array(offset).map(u16::from_ne_bytes)
    }

    pub fn u32(&self, offset: usize) -> Result<u32, DecodeError> {
        self.array(offset).map(u32::from_ne_bytes)
    }

    pub fn i32(&self, offset: usize) -> Result<i32, DecodeError> {
        self.array(offset).map(i32::from_ne_bytes)
    }

    pub fn u64(&self, offset: usize) -> Result<u64, DecodeError> {
        self.array(offset).map(u64::from_ne_bytes)
    }

    pub fn cgroups(&self, v2: usize, memory_v1: usize) -> Result<Cgroups, DecodeError> {
        Ok(Cgroups { v2: nonzero(self.u64(v2)?), memory_v1: nonzero(self.u64(memory_v1)?) })
    }

    pub fn comm(&self, offset: usize) -> Result<String, DecodeError> {
        self.text::<{ abi::COMM_LEN }>(offset)
    }

    /// A text of at most `N` bytes that ends with a NUL.
    pub fn text<const N: usize>(&self, offset: usize) -> Result<String, DecodeError> {
        let bytes: [u8; N] = self.array(offset)?;
        let text = bytes.split(|it| *it == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The used part of a buffer of `room` bytes.
    pub fn buffer(&self, offset: usize, room: usize, length: u32) -> Result<&'a [u8], DecodeError> {
        let used = usize::try_from(length).ok().filter(|it| *it <= room);
        let used = used.ok_or(DecodeError::Length { length, room })?;
        self.0.get(offset..offset + used).ok_or(DecodeError::Short { have: self.0.len(), offset })
    }
}
