//! The stack of a thread whose process has ended, from a copy of its memory.

use std::{fmt, fs::File, time::Instant};

use super::{image::Image, memory::StackMemory, tracer::Registers, unwind::Unwinder};
use crate::host::mapping::CodeMapping;

/// What a thread had on its stack, from its stack pointer upwards. It may be anything that the program works with, so it is
/// shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct StackCopy {
    pub registers: Registers,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for StackCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackCopy").field("length", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl StackCopy {
    /// The address of the instruction, and those that the calls return to, the innermost first. As far as the copy goes, and
    /// until then.
    pub fn calls(
        &self,
        mappings: Vec<CodeMapping>,
        open: impl Fn(&CodeMapping) -> Option<File> + 'static,
        until: Instant,
    ) -> Vec<u64> {
        let open = move |mapping: &CodeMapping| {
            let file = open(mapping).ok_or_else(|| "the file is gone or replaced".to_owned())?;
            Image::of(file)
        };
        let mut memory = StackMemory::Copy { start: self.registers.stack_pointer, bytes: &self.bytes };
        let found = Unwinder::new(open, mappings).calls(&self.registers, &mut memory, until);
        // The unwinder looks up the call itself, which is before the place that it returns to.
        let after_call = |depth: usize, address: u64| address.saturating_add(u64::from(depth > 0));
        found.places.iter().enumerate().map(|(depth, place)| after_call(depth, place.address)).collect()
    }
}
