//! Writes the values of the frozen globals into the instructions that read them.
//!
//! The compiler does not know the values, so a program fetches each from memory: an exit that is filtered takes 25 fetches.
//! The verifier knows the values and drops branches by them, but it leaves the fetches.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use object::{
    LittleEndian as LE, SymbolIndex,
    elf::{FileHeader64, SHF_EXECINSTR, SHT_SYMTAB},
    pod::bytes_of,
    read::elf::{FileHeader as _, SectionHeader as _},
};

/// An instruction: operation, registers (the target in the lower half), an offset of two bytes, a number of four.
type Instruction = [u8; 8];

/// Operations. The address is two instructions long.
const LOAD_ADDRESS: u8 = 0x18;
const LOAD_WORD: u8 = 0x61;
const LOAD_BYTE: u8 = 0x71;
const MOVE_NUMBER: u8 = 0xb4;

/// The classes of jumps, in the lower three bits of an operation; calls and exits among them, in the upper four.
const JUMPS: [u8; 2] = [0x05, 0x06];
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const LONG_JUMP: u8 = 0x06;

/// A jump to the next instruction. The verifier removes it.
const NOTHING: Instruction = [0x05, 0, 0, 0, 0, 0, 0, 0];

/// Place of `sh_size` in a section header, whose size is the other.
const SIZE_AT: usize = 32;
const SECTION_HEADER: usize = 64;

/// The object with the values of these globals in its code. A read that does not have the usual form stays as it is, and
/// finds the value in memory.
pub fn inline<'a>(object: &'a [u8], values: &BTreeMap<&str, u32>) -> Cow<'a, [u8]> {
    inlined(object, values).map_or(Cow::Borrowed(object), Cow::Owned)
}

/// None if the object is not an ELF file.
fn inlined(object: &[u8], values: &BTreeMap<&str, u32>) -> Option<Vec<u8>> {
    let header = FileHeader64::<LE>::parse(object).ok()?;
    let sections = header.sections(LE, object).ok()?;
    let symbols = sections.symbols(LE, object, SHT_SYMTAB).ok()?;
    let value_of = |symbol: u32| {
        let symbol = symbols.symbol(SymbolIndex(symbol as usize)).ok()?;
        let name = symbols.symbol_name(LE, symbol).ok()?;
        values.get(str::from_utf8(name).ok()?)
    };
    let mut changed = object.to_vec();
    for (index, section) in sections.enumerate() {
        let Some((relocations, _)) = section.rel(LE, object).ok()? else { continue };
        let programs = sections.section(section.info_link(LE)).ok()?;
        if programs.sh_flags(LE) & u64::from(SHF_EXECINSTR) == 0 {
            continue;
        }
        let code = range(programs.file_range(LE)?);
        let (code, _) = changed.get_mut(code)?.as_chunks_mut::<{ size_of::<Instruction>() }>();
        let targets = jump_targets(code);
        let mut kept = Vec::new();
        for relocation in relocations {
            let at = relocation.r_offset.get(LE) as usize / size_of::<Instruction>();
            let value = value_of(relocation.r_sym(LE)).filter(|_| !targets.contains(&(at + 2)));
            if !value.is_some_and(|value| replace(code, at, *value)) {
                kept.extend_from_slice(bytes_of(relocation));
            }
        }
        let place = range(section.file_range(LE)?);
        changed.get_mut(place.start..place.start + kept.len())?.copy_from_slice(&kept);
        let size = header.e_shoff.get(LE) as usize + index.0 * SECTION_HEADER + SIZE_AT;
        changed.get_mut(size..size + 8)?.copy_from_slice(&kept.len().to_le_bytes());
    }
    Some(changed)
}

fn range((offset, size): (u64, u64)) -> Range<usize> {
    offset as usize..(offset + size) as usize
}

/// Replaces a read of a global, whose address is loaded by the instruction `at`. Returns whether the address is not needed
/// any more.
fn replace(code: &mut [Instruction], at: usize, value: u32) -> bool {
    let next = code.get(at + 3).copied();
    let Some([address, rest_of_address, load]) = code.get_mut(at..at + 3) else { return false };
    let (base, from, to) = (address[1] & 0xf, load[1] >> 4, load[1] & 0xf);
    let is_read = address[0] == LOAD_ADDRESS && from == base && load[2..4] == [0, 0];
    let value = match load[0] {
        LOAD_WORD if is_read => value,
        LOAD_BYTE if is_read => value & 0xff,
        _ => return false,
    };
    let [a, b, c, d] = value.to_le_bytes();
    *load = [MOVE_NUMBER, to, 0, 0, a, b, c, d];
    // The register may keep the address for a later read, unless it is overwritten at once.
    let is_overwritten = next.is_some_and(|next| next[0] == LOAD_ADDRESS && next[1] & 0xf == base);
    if to != base && !is_overwritten {
        return false;
    }
    (*address, *rest_of_address) = (NOTHING, NOTHING);
    true
}

/// The instructions that jumps lead to. One that loads from an address may be reached with another address.
fn jump_targets(code: &[Instruction]) -> BTreeSet<usize> {
    let target = |(at, instruction): (usize, &Instruction)| {
        let [operation, _, low, high, number @ ..] = *instruction;
        if !JUMPS.contains(&(operation & 7)) || matches!(operation & 0xf0, CALL | EXIT) {
            return None;
        }
        let near = i16::from_le_bytes([low, high]).into();
        let distance = if operation == LONG_JUMP { i32::from_le_bytes(number) } else { near };
        (at + 1).checked_add_signed(distance as isize)
    };
    code.iter().enumerate().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::ebpf::load::OBJECT;

    const ADDRESS_IN_1: [Instruction; 2] = [[LOAD_ADDRESS, 1, 0, 0, 0, 0, 0, 0], [0; 8]];

    fn code(load: Instruction) -> [Instruction; 3] {
        [ADDRESS_IN_1[0], ADDRESS_IN_1[1], load]
    }

    #[test]
    fn a_read_becomes_a_number() {
        let mut read = code([LOAD_WORD, 0x11, 0, 0, 0, 0, 0, 0]);
        assert!(replace(&mut read, 0, u32::MAX));
        assert_eq!(read, [NOTHING, NOTHING, [MOVE_NUMBER, 1, 0, 0, 0xff, 0xff, 0xff, 0xff]]);
    }

    #[test]
    fn an_address_that_a_register_keeps_stays() {
        let mut read = code([LOAD_WORD, 0x12, 0, 0, 0, 0, 0, 0]);
        assert!(!replace(&mut read, 0, 0x0102));
        assert_eq!(read, [ADDRESS_IN_1[0], ADDRESS_IN_1[1], [MOVE_NUMBER, 2, 0, 0, 2, 1, 0, 0]]);
    }

    #[test]
    fn an_address_that_is_overwritten_goes() {
        let read = code([LOAD_WORD, 0x12, 0, 0, 0, 0, 0, 0]);
        let mut reads = [read, read].concat();
        assert!(replace(&mut reads, 0, 1) && !replace(&mut reads, 3, 2));
        assert_eq!(reads[..3], [NOTHING, NOTHING, [MOVE_NUMBER, 2, 0, 0, 1, 0, 0, 0]]);
        assert_eq!(reads[3..5], ADDRESS_IN_1);
    }

    #[test]
    fn what_is_no_read_of_the_global_stays() {
        let store = [0x63, 0x21, 0, 0, 0, 0, 0, 0];
        let of_another_address = [LOAD_WORD, 0x31, 0, 0, 0, 0, 0, 0];
        let of_the_next_global = [LOAD_WORD, 0x11, 4, 0, 0, 0, 0, 0];
        for load in [store, of_another_address, of_the_next_global] {
            let mut other = code(load);
            assert!(!replace(&mut other, 0, 7));
            assert_eq!(other, code(load));
        }
        assert!(!replace(&mut code(store)[..2], 0, 7), "the code ends with the address");
    }

    #[test]
    fn jumps_lead_where_the_kernel_takes_them() {
        let back = [0x1d, 0x21, 0xfe, 0xff, 0, 0, 0, 0];
        let call = [0x85, 0, 0, 0, 1, 0, 0, 0];
        let exit = [0x95, 0, 0, 0, 0, 0, 0, 0];
        let long = [LONG_JUMP, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(jump_targets(&[call, back, exit, long]), BTreeSet::from([0, 6]));
    }

    #[test]
    fn the_programs_fetch_no_offset_from_memory() {
        let values = BTreeMap::from([("OFF_TASK_TGID", 0x1234), ("CURRENT_IS_TYPED", 1)]);
        let changed = inlined(OBJECT, &values).unwrap();
        assert_eq!(changed.len(), OBJECT.len());
        let again = BTreeMap::from([("OFF_TASK_TGID", 0x4321), ("CURRENT_IS_TYPED", 0)]);
        assert!(inlined(&changed, &again).unwrap() == changed, "nothing is left to replace");
        assert!(changed != OBJECT);
    }

    #[test]
    fn what_is_no_object_stays() {
        assert_eq!(inline(b"no object", &BTreeMap::new()), b"no object".as_slice());
    }
}
