//! Has the kernel map pages of files one by one.
//!
//! At a fault in the mapping of a file the kernel maps up to 16 pages around it that are in the page cache
//! (`do_fault_around` in mm/memory.c). Code that runs often lies between code that runs seldom, so most of what is mapped
//! that way is never used. The kernel maps no others around a fault in a range that a userfaultfd protects from
//! writes (`uffd_disable_fault_around`). In the asynchronous mode of Linux 6.7 such a userfaultfd has no events, and no page is
//! protected here, so it does nothing else.

use std::{mem::forget, ops::Range, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    ioctl::{Opcode, Updater, ioctl, opcode},
    mm::{UserfaultfdFlags, userfaultfd},
};

/// From linux/userfaultfd.h.
const IOCTL_GROUP: u8 = 0xaa;
const API: Opcode = opcode::read_write::<Api>(IOCTL_GROUP, 0x3f);
const REGISTER: Opcode = opcode::read_write::<Register>(IOCTL_GROUP, 0);
const API_VERSION: u64 = 0xaa;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const MODE_WP: u64 = 1 << 1;
/// Without this, the call takes `CAP_SYS_PTRACE`.
const USER_MODE_ONLY: u32 = 1;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

pub(super) struct SinglePages(OwnedFd);

impl SinglePages {
    /// Fails with `EINVAL` before Linux 6.7.
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        let mut api = Api { api: API_VERSION, features: FEATURE_WP_ASYNC, ioctls: 0 };
        // SAFETY: nothing reads the descriptor, and the structure is the one of this call.
        unsafe {
            let descriptor = userfaultfd(flags)?;
            ioctl(&descriptor, Updater::<API, _>::new(&mut api))?;
            Ok(Self(descriptor))
        }
    }

    /// Pages of this range of addresses are mapped one by one from now on.
    pub(super) fn register(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut register =
            Register { start: range.start, len: range.end - range.start, mode: MODE_WP, ioctls: 0 };
        // SAFETY: the structure is the one of this call. No page is protected, so no access to the range waits.
        unsafe { ioctl(&self.0, Updater::<REGISTER, _>::new(&mut register)) }
    }

    /// Lets it last as long as the process: the kernel forgets the ranges when the descriptor is closed.
    pub(super) fn keep(self) {
        forget(self);
    }
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, io::Write, ptr::null_mut};

    use procfs::process::Process;
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    use super::*;

    const PAGE: usize = 4096;
    const PAGES: usize = 16;

    /// The resident bytes of a mapping after its first page was read.
    fn resident(pages: Option<&SinglePages>) -> u64 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; PAGE * PAGES]).unwrap();
        let length = PAGE * PAGES;
        // SAFETY: the file has this length, and the mapping stays.
        let start =
            unsafe { mmap(null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) }.unwrap();
        let range = start as u64..(start as usize + length) as u64;
        if let Some(pages) = pages {
            pages.register(range.clone()).unwrap();
        }
        // SAFETY: it is the first byte of the mapping.
        assert_eq!(black_box(unsafe { start.cast::<u8>().read_volatile() }), 1);
        let maps = Process::myself().unwrap().smaps().unwrap();
        let map = maps.iter().find(|map| map.address.0 == range.start).unwrap();
        map.extension.map["Rss"]
    }

    #[test]
    fn a_fault_in_a_registered_range_maps_one_page() {
        // Kernels before 6.7 cannot.
        let Ok(pages) = SinglePages::new() else { return };
        assert_eq!(resident(Some(&pages)), PAGE as u64);
        assert!(resident(None) > PAGE as u64);
    }
}
