//! Where in the maps of what is watched the kernel side may find something, so that it looks there alone.
//!
//! A place that is marked without need costs a look. One that is not marked hides a process, so places are marked before
//! anybody relies on it, and only a [`Sweep`] that saw all who are in the maps takes marks away.

use std::{collections::BTreeSet, mem::offset_of};

use aya::maps::{Array, MapData, MapError};
use probe_abi::{KNOWN_CGROUPS, KNOWN_PROCESSES};

use super::watch::CgroupId;

/// The layout of `probe_abi::Known`.
type Bytes = [u8; size_of::<probe_abi::Known>()];

const EPOCH: usize = offset_of!(probe_abi::Known, epoch);
const ANY_V2: usize = offset_of!(probe_abi::Known, any_v2);
const ANY_MEM_V1: usize = offset_of!(probe_abi::Known, any_mem_v1);
const PROCESSES: usize = offset_of!(probe_abi::Known, processes);
const CGROUPS_V2: usize = offset_of!(probe_abi::Known, cgroups_v2);
const CGROUPS_MEM_V1: usize = offset_of!(probe_abi::Known, cgroups_mem_v1);

/// The marks.
#[derive(Clone, PartialEq, Eq)]
struct Marks(Box<Bytes>);

impl Marks {
    fn new() -> Self {
        let mut bytes = Box::new([0; size_of::<probe_abi::Known>()]);
        bytes[EPOCH] = 1;
        Self(bytes)
    }

    fn process(&mut self, pid: u32) {
        self.set(PROCESSES, pid as usize % KNOWN_PROCESSES);
    }

    fn cgroup(&mut self, cgroup: CgroupId) {
        match cgroup {
            CgroupId::Unified(id) => {
                self.set(CGROUPS_V2, id as usize % KNOWN_CGROUPS);
                self.0[ANY_V2] = 1;
            }
            CgroupId::MemoryV1(id) => {
                self.set(CGROUPS_MEM_V1, id as usize % KNOWN_CGROUPS);
                self.0[ANY_MEM_V1] = 1;
            }
        }
    }

    fn set(&mut self, from: usize, place: usize) {
        self.0[from + place / 8] |= 1 << (place % 8);
    }

    fn next_epoch(&mut self) {
        self.0[EPOCH] = self.0[EPOCH].checked_add(1).unwrap_or(1);
    }
}

/// What the kernel side is told of the maps, and the cgroups in them, as only the daemon writes those.
pub struct Known {
    map: Array<MapData, Bytes>,
    marks: Marks,
    cgroups: BTreeSet<CgroupId>,
}

impl Known {
    pub fn new(map: Array<MapData, Bytes>) -> Result<Self, MapError> {
        let mut it = Self { map, marks: Marks::new(), cgroups: BTreeSet::new() };
        it.tell()?;
        Ok(it)
    }

    pub fn process(&mut self, pid: u32) -> Result<(), MapError> {
        self.marks.process(pid);
        self.tell()
    }

    pub fn cgroup(&mut self, cgroup: CgroupId) -> Result<(), MapError> {
        self.cgroups.insert(cgroup);
        self.marks.cgroup(cgroup);
        self.tell()
    }

    pub fn not_cgroup(&mut self, cgroup: CgroupId) {
        // Its mark may be another one's too; the next sweep knows.
        self.cgroups.remove(&cgroup);
    }

    /// Takes away the marks of all but these processes, who are all that were in the maps at some time since the last
    /// sweep was over.
    pub fn sweep(&mut self, processes: &[u32]) -> Result<(), MapError> {
        let mut marks = swept(processes, &self.cgroups);
        marks.0[EPOCH] = self.marks.0[EPOCH];
        if marks != self.marks {
            self.marks = marks;
            self.tell()?;
        }
        // Births of two epochs ago count no more from here on: they are marked now.
        self.marks.next_epoch();
        self.tell()
    }

    fn tell(&mut self) -> Result<(), MapError> {
        self.map.set(0, *self.marks.0, 0)
    }
}

fn swept(processes: &[u32], cgroups: &BTreeSet<CgroupId>) -> Marks {
    let mut marks = Marks::new();
    processes.iter().for_each(|pid| marks.process(*pid));
    cgroups.iter().for_each(|cgroup| marks.cgroup(*cgroup));
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_set(marks: &Marks, from: usize, place: usize) -> bool {
        marks.0[from + place / 8] >> (place % 8) & 1 == 1
    }

    #[test]
    fn a_mark_is_where_the_kernel_side_looks_for_it() {
        let mut marks = Marks::new();
        marks.process(70_000);
        marks.cgroup(CgroupId::Unified(1 << 32 | 5));
        assert!(is_set(&marks, PROCESSES, 70_000 % KNOWN_PROCESSES) && is_set(&marks, CGROUPS_V2, 5));
        assert_eq!(marks.0[ANY_MEM_V1], 0, "of the other hierarchy there is none");
        marks.cgroup(CgroupId::MemoryV1(9));
        assert!(is_set(&marks, CGROUPS_MEM_V1, 9) && marks.0[ANY_MEM_V1] == 1);
        let ones: u32 = marks.0[PROCESSES..].iter().map(|it| it.count_ones()).sum();
        assert_eq!(ones, 3);
    }

    #[test]
    fn a_sweep_leaves_the_marks_of_those_who_are_there() {
        let marks = swept(&[7, 8], &BTreeSet::from([CgroupId::Unified(3)]));
        let ones: u32 = marks.0[PROCESSES..].iter().map(|it| it.count_ones()).sum();
        assert_eq!(ones, 3);
        assert!(
            is_set(&marks, PROCESSES, 7) && is_set(&marks, PROCESSES, 8) && is_set(&marks, CGROUPS_V2, 3)
        );
    }

    #[test]
    fn no_epoch_is_zero_which_stands_for_no_birth() {
        let mut marks = Marks::new();
        for _ in 0..600 {
            let before = marks.0[EPOCH];
            marks.next_epoch();
            assert_ne!(marks.0[EPOCH], 0);
            assert!(marks.0[EPOCH].wrapping_sub(before) <= 2, "the births of the last epoch count");
        }
    }
}
