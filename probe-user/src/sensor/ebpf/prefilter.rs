//! The prefilter of the eBPF programs: which ids the maps of watched processes and cgroups may contain. The programs
//! look up only those.
//!
//! A bit that is set without need costs a lookup. A missing bit hides a process. So bits are set right after each
//! insertion into a map, and only a sweep that saw every id in the maps clears bits.

use std::{collections::BTreeSet, mem::offset_of};

use aya::maps::{Array, MapData, MapError};
use probe_abi::{PREFILTER_CGROUPS, PREFILTER_PROCESSES};

use super::cgroup_id::CgroupId;

/// The layout of `probe_abi::Prefilter`.
type Bytes = [u8; size_of::<probe_abi::Prefilter>()];

const EPOCH: usize = offset_of!(probe_abi::Prefilter, epoch);
const ANY_V2: usize = offset_of!(probe_abi::Prefilter, any_v2);
const ANY_MEM_V1: usize = offset_of!(probe_abi::Prefilter, any_mem_v1);
const PROCESSES: usize = offset_of!(probe_abi::Prefilter, processes);
const CGROUPS_V2: usize = offset_of!(probe_abi::Prefilter, cgroups_v2);
const CGROUPS_MEM_V1: usize = offset_of!(probe_abi::Prefilter, cgroups_mem_v1);

#[derive(Clone, PartialEq, Eq)]
struct Bits(Box<Bytes>);

impl Bits {
    fn new() -> Self {
        let mut bytes = Box::new([0; size_of::<probe_abi::Prefilter>()]);
        bytes[EPOCH] = 1;
        Self(bytes)
    }

    fn add_process(&mut self, pid: u32) {
        self.set(PROCESSES, pid as usize % PREFILTER_PROCESSES);
    }

    fn add_cgroup(&mut self, cgroup: CgroupId) {
        match cgroup {
            CgroupId::Unified(id) => {
                self.set(CGROUPS_V2, id as usize % PREFILTER_CGROUPS);
                self.0[ANY_V2] = 1;
            }
            CgroupId::MemoryV1(id) => {
                self.set(CGROUPS_MEM_V1, id as usize % PREFILTER_CGROUPS);
                self.0[ANY_MEM_V1] = 1;
            }
        }
    }

    fn set(&mut self, from: usize, index: usize) {
        self.0[from + index / 8] |= 1 << (index % 8);
    }

    fn next_epoch(&mut self) {
        self.0[EPOCH] = self.0[EPOCH].checked_add(1).unwrap_or(1);
    }
}

/// The map of the programs, with the daemon's copy of its value.
pub struct Prefilter {
    map: Array<MapData, Bytes>,
    bits: Bits,
    /// The watched cgroups. Only the daemon writes their map, so a sweep need not read it.
    cgroups: BTreeSet<CgroupId>,
}

impl Prefilter {
    pub fn new(map: Array<MapData, Bytes>) -> Result<Self, MapError> {
        let mut it = Self { map, bits: Bits::new(), cgroups: BTreeSet::new() };
        it.write()?;
        Ok(it)
    }

    pub fn cgroups(&self) -> &BTreeSet<CgroupId> {
        &self.cgroups
    }

    pub fn add_process(&mut self, pid: u32) -> Result<(), MapError> {
        self.bits.add_process(pid);
        self.write()
    }

    pub fn add_cgroup(&mut self, cgroup: CgroupId) -> Result<(), MapError> {
        self.cgroups.insert(cgroup);
        self.bits.add_cgroup(cgroup);
        self.write()
    }

    pub fn remove_cgroup(&mut self, cgroup: CgroupId) {
        // Another cgroup may share its bit. The next sweep clears the bit if none does.
        self.cgroups.remove(&cgroup);
    }

    /// Clears all bits but those of these processes: every process that was in the maps at any time since the last
    /// sweep.
    pub fn sweep(&mut self, processes: &[u32]) -> Result<(), MapError> {
        let mut bits = bits_of(processes, &self.cgroups);
        bits.0[EPOCH] = self.bits.0[EPOCH];
        if bits != self.bits {
            self.bits = bits;
            self.write()?;
        }
        // Births of two epochs ago no longer count from here on: their bits are set now.
        self.bits.next_epoch();
        self.write()
    }

    fn write(&mut self) -> Result<(), MapError> {
        self.map.set(0, *self.bits.0, 0)
    }
}

fn bits_of(processes: &[u32], cgroups: &BTreeSet<CgroupId>) -> Bits {
    let mut bits = Bits::new();
    processes.iter().for_each(|pid| bits.add_process(*pid));
    cgroups.iter().for_each(|cgroup| bits.add_cgroup(*cgroup));
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_set(bits: &Bits, from: usize, index: usize) -> bool {
        bits.0[from + index / 8] >> (index % 8) & 1 == 1
    }

    #[test]
    fn a_bit_is_set_where_the_programs_read_it() {
        let mut bits = Bits::new();
        bits.add_process(70_000);
        bits.add_cgroup(CgroupId::Unified(1 << 32 | 5));
        assert!(is_set(&bits, PROCESSES, 70_000 % PREFILTER_PROCESSES) && is_set(&bits, CGROUPS_V2, 5));
        assert_eq!(bits.0[ANY_MEM_V1], 0, "no cgroup of the other hierarchy is watched");
        bits.add_cgroup(CgroupId::MemoryV1(9));
        assert!(is_set(&bits, CGROUPS_MEM_V1, 9) && bits.0[ANY_MEM_V1] == 1);
        let ones: u32 = bits.0[PROCESSES..].iter().map(|it| it.count_ones()).sum();
        assert_eq!(ones, 3);
    }

    #[test]
    fn a_sweep_keeps_the_bits_of_what_the_maps_contain() {
        let bits = bits_of(&[7, 8], &BTreeSet::from([CgroupId::Unified(3)]));
        let ones: u32 = bits.0[PROCESSES..].iter().map(|it| it.count_ones()).sum();
        assert_eq!(ones, 3);
        assert!(is_set(&bits, PROCESSES, 7) && is_set(&bits, PROCESSES, 8) && is_set(&bits, CGROUPS_V2, 3));
    }

    #[test]
    fn an_epoch_is_never_zero_which_means_no_birth() {
        let mut bits = Bits::new();
        for _ in 0..600 {
            let before = bits.0[EPOCH];
            bits.next_epoch();
            assert_ne!(bits.0[EPOCH], 0);
            assert!(bits.0[EPOCH].wrapping_sub(before) <= 2, "births of the last epoch still count");
        }
    }
}
