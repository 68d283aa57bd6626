//! From a thread's registers to the addresses of its calls.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
    time::Instant,
};

use framehop::{
    CacheNative, FrameAddress, MayAllocateDuringUnwind, Module, UnwindRegsNative, Unwinder as _,
    UnwinderNative,
};

use super::{image::Image, memory::StackMemory, tracer::Registers};
use crate::host::{call::Position, mapping::CodeMapping};

/// The most calls of one stack. Deeper ones are cut off.
pub const FRAMES_MAX: usize = 128;
/// The most files of one process that are read.
const IMAGES_MAX: usize = 128;

/// An address that is no frame pointer: a function that needs one ends the stack with an error.
#[cfg(target_arch = "x86_64")]
const NO_FRAME_POINTER: u64 = 8;

/// A place in a program.
#[derive(Clone, Debug)]
pub struct CodeAddress {
    pub address: u64,
    /// The mapping that has it, as a position in the process's list. None outside of all files: generated code.
    pub mapping: Option<usize>,
}

/// The calls of a thread, the innermost first.
#[derive(Clone, Debug, Default)]
pub struct CallStack {
    pub places: Vec<CodeAddress>,
    /// It goes back to the function that the thread began with.
    pub is_complete: bool,
}

/// Opens the file of a mapping, or says why not.
type Open = Box<dyn Fn(&CodeMapping) -> Result<Image, String>>;

/// Unwinds the stacks of one process.
pub struct Unwinder {
    open: Open,
    pub mappings: Vec<CodeMapping>,
    /// The files of the mappings that were met, by position.
    images: HashMap<usize, Result<Rc<Image>, String>>,
    unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl Unwinder {
    /// Of a living process, by its folder in `/proc`.
    pub fn of_process(folder: PathBuf, mappings: Vec<CodeMapping>) -> Self {
        Self::new(move |mapping| Image::open(&folder, mapping), mappings)
    }

    pub fn new(
        open: impl Fn(&CodeMapping) -> Result<Image, String> + 'static,
        mappings: Vec<CodeMapping>,
    ) -> Self {
        Self {
            open: Box::new(open),
            mappings,
            images: HashMap::new(),
            unwinder: UnwinderNative::new(),
            cache: CacheNative::new(),
        }
    }

    /// The calls of a thread whose registers are known.
    pub fn calls(
        &mut self,
        registers: &Registers,
        memory: &mut StackMemory<'_>,
        until: Instant,
    ) -> CallStack {
        let found = catch_unwind(AssertUnwindSafe(|| {
            let found = self.walk(registers, memory, until);
            // Without a table for the innermost function, the unwinder takes its return address for the last word on the
            // stack. In code with frame pointers that is any value.
            let is_lost = found.places.get(1).is_none_or(|caller| caller.mapping.is_none());
            let by_frame = if is_lost { self.walk_by_frame(registers, memory, until) } else { None };
            by_frame.filter(|other| other.places.len() > 1).unwrap_or(found)
        }));
        // The tables of a file may be anything, also what the unwinder was not made for.
        found.unwrap_or_default()
    }

    /// The calls, if the innermost function keeps its frame by the frame pointer.
    fn walk_by_frame(
        &mut self,
        registers: &Registers,
        memory: &mut StackMemory<'_>,
        until: Instant,
    ) -> Option<CallStack> {
        let frame = registers.frame_pointer;
        if frame < registers.stack_pointer {
            return None;
        }
        let return_address = memory.word(frame.checked_add(8)?).ok()?;
        let caller = Registers {
            program_counter: return_address.checked_sub(1)?,
            stack_pointer: frame.checked_add(16)?,
            frame_pointer: memory.word(frame).ok()?,
            link: 0,
        };
        self.mapping_of(caller.program_counter)?;
        let address = registers.program_counter;
        let innermost = CodeAddress { address, mapping: self.mapping_of(address) };
        if let Some(mapping) = innermost.mapping {
            self.load(mapping);
        }
        let from = FrameAddress::from_return_address(return_address)?;
        let mut found = self.walk_from(from, native(&caller), memory, until);
        found.places.insert(0, innermost);
        Some(found)
    }

    /// The calls of a thread that waits in the kernel, from the two registers that `/proc` shows. They suffice where no
    /// function on the stack keeps its frame by the frame pointer.
    #[cfg(target_arch = "x86_64")]
    pub fn calls_at(&mut self, at: Position, memory: &mut StackMemory<'_>, until: Instant) -> CallStack {
        let Position { program_counter, stack_pointer } = at;
        let registers =
            Registers { program_counter, stack_pointer, frame_pointer: NO_FRAME_POINTER, link: 0 };
        self.calls(&registers, memory, until)
    }

    /// On other machines the innermost return address is in a register that `/proc` does not show.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn calls_at(&mut self, at: Position, _: &mut StackMemory<'_>, _: Instant) -> CallStack {
        let address = at.program_counter;
        CallStack {
            places: vec![CodeAddress { address, mapping: self.mapping_of(address) }],
            is_complete: false,
        }
    }

    fn walk(&mut self, registers: &Registers, memory: &mut StackMemory<'_>, until: Instant) -> CallStack {
        let from = FrameAddress::from_instruction_pointer(registers.program_counter);
        self.walk_from(from, native(registers), memory, until)
    }

    fn walk_from(
        &mut self,
        from: FrameAddress,
        mut registers: UnwindRegsNative,
        memory: &mut StackMemory<'_>,
        until: Instant,
    ) -> CallStack {
        let mut found = CallStack::default();
        let mut at = from;
        while found.places.len() < FRAMES_MAX && Instant::now() < until {
            let address = at.address_for_lookup();
            let mapping = self.mapping_of(address);
            found.places.push(CodeAddress { address, mapping });
            if let Some(mapping) = mapping {
                self.load(mapping);
            }
            let mut read = |address| memory.word(address);
            match self.unwinder.unwind_frame(at, &mut registers, &mut self.cache, &mut read) {
                Ok(Some(next)) => match FrameAddress::from_return_address(next) {
                    Some(next) => at = next,
                    None => break,
                },
                Ok(None) => {
                    found.is_complete = true;
                    break;
                }
                Err(_) => break,
            }
        }
        found
    }

    fn mapping_of(&self, address: u64) -> Option<usize> {
        let after = self.mappings.partition_point(|mapping| mapping.range.start <= address);
        let index = after.checked_sub(1)?;
        self.mappings[index].range.contains(&address).then_some(index)
    }

    /// Opens the file of a mapping, unless it is open, and gives its tables to the unwinder.
    fn load(&mut self, index: usize) {
        if self.images.contains_key(&index) || self.images.len() >= IMAGES_MAX {
            return;
        }
        let mapping = &self.mappings[index];
        // Two mappings of one file share it.
        let same = |other: &CodeMapping| (other.device, other.inode) == (mapping.device, mapping.inode);
        let known = self.images.iter().find(|(other, _)| same(&self.mappings[**other]));
        let image = match known {
            Some((_, image)) => image.clone(),
            None => (self.open)(mapping).map(Rc::new),
        };
        if let Ok(image) = &image
            && let Some(address) = image.header.address_of(mapping.offset)
        {
            let base = mapping.range.start.wrapping_sub(address).wrapping_add(image.header.base());
            let name = mapping.file_name().to_owned();
            if base <= mapping.range.start {
                self.unwinder.add_module(Module::new(
                    name,
                    mapping.range.clone(),
                    base,
                    image.unwind_tables(),
                ));
            }
        }
        self.images.insert(index, image);
    }

    /// The file that has a place, and the address that the file itself gives to it.
    pub fn image_of(&self, place: &CodeAddress) -> Option<(Rc<Image>, u64)> {
        let index = place.mapping?;
        let mapping = &self.mappings[index];
        let image = self.images.get(&index)?.as_ref().ok()?;
        let offset = (place.address - mapping.range.start).checked_add(mapping.offset)?;
        Some((Rc::clone(image), image.header.address_of(offset)?))
    }

    /// The files that could not be read, and why.
    pub fn unread(&self) -> Vec<String> {
        let failed = self.images.iter().filter_map(|(index, image)| {
            image.as_ref().err().map(|why| format!("{}: {why}", self.mappings[*index].path))
        });
        let mut unread: Vec<String> = failed.collect();
        unread.sort();
        unread
    }
}

#[cfg(target_arch = "x86_64")]
fn native(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.program_counter, registers.stack_pointer, registers.frame_pointer)
}

#[cfg(target_arch = "aarch64")]
fn native(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.link, registers.stack_pointer, registers.frame_pointer)
}

#[cfg(test)]
mod tests;
