//! The way of the fuzzers to what is read of a process that crashed.

use super::image::build_id_of;
use crate::host::mapping::CodeMapping;

/// The build id in the beginning of an ELF file.
pub fn build_id(head: &[u8]) -> Option<String> {
    build_id_of(head)
}

/// The number of mappings of code in a map.
pub fn mappings(map: &str) -> usize {
    let found = map.lines().filter_map(CodeMapping::parse);
    found.inspect(|mapping| _ = (mapping.covers(0), mapping.covers(u64::MAX))).count()
}
