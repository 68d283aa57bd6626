//! The memory that only the start of the daemon needs.

use std::{
    ffi::{c_int, c_void},
    ops::Range,
    slice,
};

use rustix::{
    mm::{Advice, madvise},
    param::page_size,
};

use super::fault_around::SinglePages;

/// From this size on, what is allocated has pages of its own, which the kernel gets back when it is freed; bytes.
#[cfg(target_env = "gnu")]
const OWN_PAGES: c_int = 128 * 1024;

/// Has all threads share one heap. The C library would give each thread its own, most of which stays unused: the
/// daemon's threads seldom allocate. It would also let the heap keep what was large once, by raising this limit to the
/// largest size that was freed. Meant to be called before the first thread starts.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
    }
}

/// Returns free memory to the kernel, and unmaps the pages of the program and its libraries.
///
/// To attach the eBPF programs is to read the kernel's type descriptions, which take more memory for a moment than all
/// that the daemon keeps. The C library's allocator would keep it. Most of the pages of files that are mapped are those of
/// the start, and their neighbours. A page that is used again is mapped again, from the page cache: on Linux 6.7 and later
/// alone. The first failure of a service takes half a millisecond longer for that.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` moves no memory in use, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    unmap_files();
}

fn unmap_files() {
    let single_pages = SinglePages::new().ok();
    for range in constant_segments() {
        if let Some(single_pages) = &single_pages {
            // If that fails, the pages are mapped with others.
            let _ = single_pages.register(range.clone());
        }
        let start = range.start as *mut c_void;
        // SAFETY: these pages are as they are in the file, which the kernel maps again when they are used.
        let _ = unsafe { madvise(start, (range.end - range.start) as usize, Advice::LinuxDontNeed) };
    }
    if let Some(single_pages) = single_pages {
        single_pages.keep();
    }
}

/// The addresses of what the loader has mapped from files and nothing writes to: code and constants. Constants that the loader
/// writes addresses into are in segments that are writable at first.
fn constant_segments() -> Vec<Range<u64>> {
    unsafe extern "C" fn add(object: *mut libc::dl_phdr_info, _: usize, all: *mut c_void) -> c_int {
        // SAFETY: the loader calls this with an object and its headers, and with the list below.
        let (object, all) = unsafe { (&*object, &mut *all.cast::<Vec<Range<u64>>>()) };
        // SAFETY: as above.
        let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
        let is_constant = |it: &&libc::Elf64_Phdr| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0;
        let page = page_size() as u64;
        all.extend(headers.iter().filter(is_constant).map(|header| {
            let start = object.dlpi_addr + header.p_vaddr;
            start / page * page..(start + header.p_memsz).next_multiple_of(page)
        }));
        0
    }
    let mut all: Vec<Range<u64>> = Vec::new();
    // SAFETY: the callback has this type, and the list outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut all).cast()) };
    // The kernel's own object is no file.
    // SAFETY: the call has no preconditions.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    all.retain(|range| !range.contains(&vdso));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resident pages of the program's code, in KiB.
    fn resident_code() -> u64 {
        let program = std::env::current_exe().unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_code = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if line.ends_with(program.to_str().unwrap()) {
                is_code = line.contains(" r-xp ");
            } else if let (true, Some(size)) = (is_code, line.strip_prefix("Rss:")) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                is_code = false;
            }
        }
        sum
    }

    #[test]
    fn code_that_ran_is_unmapped_and_runs_again() {
        // Other tests run code meanwhile.
        let shrinks = || {
            let before = resident_code();
            unmap_files();
            resident_code() < before
        };
        assert!((0..100).any(|_| shrinks()));
    }
}
