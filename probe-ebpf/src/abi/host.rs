//! Faults of the host: hung tasks, and errors of disks, file systems and memory.

use core::mem::{offset_of, size_of};

use crate::{COMM_LEN, Header};

/// Longest stored name of what is at fault. Disks (`DISK_NAME_LEN`) and mounted devices (`super_block.s_id`) have names of
/// up to 32 bytes with their closing NUL.
pub const TARGET_LEN: usize = 32;
/// Longest stored name of a kernel function, and of a memory module, in bytes with the closing NUL.
pub const FAULT_TEXT_LEN: usize = 64;

/// [`FaultKey::fault`]: a task does not run.
pub const FAULT_HUNG_TASK: u32 = 1;
/// [`FaultKey::fault`]: a disk failed a request.
pub const FAULT_BLOCK: u32 = 2;
/// [`FaultKey::fault`]: ext4 found an error.
pub const FAULT_EXT4: u32 = 3;
/// [`FaultKey::fault`]: XFS shut a file system down.
pub const FAULT_XFS: u32 = 4;
/// [`FaultKey::fault`]: the processor reports an error that it did not correct.
pub const FAULT_MACHINE_CHECK: u32 = 5;
/// [`FaultKey::fault`]: a memory controller reports an error that it did not correct.
pub const FAULT_MEMORY: u32 = 6;

/// Key of `FAULTS`: two faults with the same key are of the same kind.
///
/// A program that only counts a fault reads no more than this. So a disk and a file system are known by an address in the
/// kernel, which another one may have later. The daemon forgets a kind that was quiet for ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FaultKey {
    /// What is at fault. For a hung task, the name of its thread (`comm`). For a disk, the address of its queue; for a file
    /// system, that of its structure; for memory, the number of the processor or of the controller; each with 0 behind it.
    pub subject: [u64; 2],
    /// One of the `FAULT_` constants.
    pub fault: u32,
    /// For a disk, the operation in bits 0–7 and the status in bits 8–15. Otherwise 0.
    pub variant: u32,
}

/// The kernel's detector found a task that has not run for long. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HungTask {
    /// [`KIND_HUNG_TASK`](crate::KIND_HUNG_TASK).
    pub header: Header,
    pub key: FaultKey,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    pub tgid: u32,
    pub tid: u32,
    /// `comm` of the thread group leader.
    pub comm: [u8; COMM_LEN],
    /// `comm` of the thread.
    pub thread_comm: [u8; COMM_LEN],
}

/// A disk failed a request. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BlockError {
    /// [`KIND_BLOCK_ERROR`](crate::KIND_BLOCK_ERROR).
    pub header: Header,
    pub key: FaultKey,
    /// First sector of the failed part, in units of 512 bytes.
    pub sector: u64,
    /// Length of the failed part.
    pub bytes: u32,
    /// `REQ_OP_` number.
    pub operation: u32,
    /// `BLK_STS_` number.
    pub status: u32,
    pub pad: u32,
    /// Its name. Bytes past its NUL are stale memory.
    pub disk: [u8; TARGET_LEN],
}

/// A file system found an error in itself, or gave up. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FileSystemError {
    /// [`KIND_FILE_SYSTEM_ERROR`](crate::KIND_FILE_SYSTEM_ERROR).
    pub header: Header,
    pub key: FaultKey,
    /// Its device number as the kernel encodes it: the minor number in bits 0–19, the major number above.
    pub device: u32,
    /// The line of the kernel's source that found it.
    pub line: u32,
    /// `SHUTDOWN_` flags of XFS, otherwise 0.
    pub flags: u32,
    /// The process that the kernel was working for.
    pub tgid: u32,
    /// `comm` of its thread.
    pub comm: [u8; COMM_LEN],
    /// The name of the device that is mounted. Bytes past its NUL are stale memory, also in `place`.
    pub target: [u8; TARGET_LEN],
    /// The function of the kernel, or the file of its source, that found it.
    pub place: [u8; FAULT_TEXT_LEN],
}

/// The processor reports an error that it did not correct. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MachineCheck {
    /// [`KIND_MACHINE_CHECK`](crate::KIND_MACHINE_CHECK).
    pub header: Header,
    pub key: FaultKey,
    /// `MCi_STATUS`.
    pub status: u64,
    /// `MCi_ADDR`: a physical address if the status says that it is valid.
    pub address: u64,
    pub cpu: u32,
    pub bank: u32,
}

/// A memory controller reports an error that it did not correct. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryError {
    /// [`KIND_MEMORY_ERROR`](crate::KIND_MEMORY_ERROR).
    pub header: Header,
    pub key: FaultKey,
    /// Physical address; 0 if not known.
    pub address: u64,
    /// How many errors it reports at once.
    pub errors: u32,
    /// `HW_EVENT_ERR_` number: 1 uncorrected, 2 deferred, 3 fatal.
    pub severity: u32,
    /// Number of the controller.
    pub controller: u32,
    pub pad: u32,
    /// The memory module. Bytes past its NUL are stale memory, also in `message`.
    pub label: [u8; FAULT_TEXT_LEN],
    /// What the driver says.
    pub message: [u8; FAULT_TEXT_LEN],
}

const _: () = {
    assert!(size_of::<FaultKey>() == 24);
    assert!(size_of::<HungTask>() == 104 && offset_of!(HungTask, comm) == 72);
    assert!(size_of::<BlockError>() == 96 && offset_of!(BlockError, sector) == 40);
    assert!(size_of::<FileSystemError>() == 168 && offset_of!(FileSystemError, place) == 104);
    assert!(size_of::<MachineCheck>() == 64 && offset_of!(MachineCheck, status) == 40);
    assert!(size_of::<MemoryError>() == 192 && offset_of!(MemoryError, label) == 64);
};
