//! The stack of a thread in another process: read page by page, or as it was copied.

use std::collections::HashMap;

/// The size of a piece that is read at a time. It divides every page size, so that it never reaches into an unmapped page.
const PIECE: u64 = 4096;

/// The most pieces of one thread's stack: 256 KiB. Deeper stacks are cut off.
const PIECES_MAX: usize = 64;

/// The stack of a thread, read within a bound.
#[derive(Debug)]
pub enum StackMemory<'a> {
    /// Of a living process.
    Process { pid: i32, pieces: HashMap<u64, Option<Box<[u8]>>> },
    /// Of one that has ended: the bytes that began at an address.
    Copy { start: u64, bytes: &'a [u8] },
}

impl StackMemory<'_> {
    pub fn new(pid: i32) -> Self {
        Self::Process { pid, pieces: HashMap::new() }
    }

    /// Copies what lies above the stack pointer, while the thread stands still.
    pub fn copy_above(&mut self, stack_pointer: u64, pieces: u64) {
        let first = stack_pointer / PIECE;
        for piece in first..first.saturating_add(pieces) {
            if self.word(piece.saturating_mul(PIECE)).is_err() {
                break;
            }
        }
    }

    /// The word at an address. Fails if it cannot be read, or if the copy is full.
    pub fn word(&mut self, address: u64) -> Result<u64, ()> {
        let (bytes, offset) = match self {
            Self::Process { pid, pieces } => {
                (piece(*pid, pieces, address / PIECE).ok_or(())?, address % PIECE)
            }
            Self::Copy { start, bytes } => (*bytes, address.checked_sub(*start).ok_or(())?),
        };
        let offset = usize::try_from(offset).map_err(drop)?;
        let word = bytes.get(offset..).and_then(|bytes| bytes.first_chunk()).ok_or(())?;
        Ok(u64::from_ne_bytes(*word))
    }
}

fn piece(pid: i32, pieces: &mut HashMap<u64, Option<Box<[u8]>>>, number: u64) -> Option<&[u8]> {
    if !pieces.contains_key(&number) {
        if pieces.len() >= PIECES_MAX {
            return None;
        }
        let mut bytes = vec![0; PIECE as usize].into_boxed_slice();
        let is_read = read_exactly(pid, number.checked_mul(PIECE)?, &mut bytes);
        pieces.insert(number, is_read.then_some(bytes));
    }
    pieces.get(&number)?.as_deref()
}

/// Fills the bytes from the memory of a process. False if not all of them can be read.
pub fn read_exactly(pid: i32, address: u64, bytes: &mut [u8]) -> bool {
    let Ok(base) = usize::try_from(address) else { return false };
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(base), iov_len: bytes.len() };
    // SAFETY: the kernel writes into `bytes` alone, at most their length, and `remote` is not accessed in this process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read) == Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_words_that_it_holds_whole() {
        let bytes = [7_u64.to_ne_bytes(), 8_u64.to_ne_bytes()].concat();
        let mut memory = StackMemory::Copy { start: 0x1000, bytes: &bytes };
        assert_eq!((memory.word(0x1000), memory.word(0x1008)), (Ok(7), Ok(8)));
        for outside in [0, 0xff8, 0x1009, 0x1010, u64::MAX] {
            assert_eq!(memory.word(outside), Err(()), "{outside:#x}");
        }
    }

    #[test]
    fn words_are_read_within_the_bound_and_not_where_there_is_no_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        let known: Vec<u64> = (0..2 * PIECE).collect();
        let mut memory = StackMemory::new(own);
        let at = |index: usize| &raw const known[index] as u64;
        assert_eq!((memory.word(at(0)), memory.word(at(700))), (Ok(0), Ok(700)));
        assert_eq!(memory.word(8), Err(()));
        assert_eq!(memory.word(u64::MAX), Err(()));
        let large = vec![0_u8; (PIECES_MAX + 2) * PIECE as usize];
        let mut memory = StackMemory::new(own);
        let first = (&raw const large[0] as u64).next_multiple_of(8);
        let read = (0..PIECES_MAX as u64 + 1).filter(|piece| memory.word(first + piece * PIECE).is_ok());
        assert_eq!(read.count(), PIECES_MAX);
    }
}
