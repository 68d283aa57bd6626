/// A cgroup: the inode of its directory, in the hierarchy that numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CgroupId {
    Unified(u64),
    MemoryV1(u64),
}
