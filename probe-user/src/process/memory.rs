//! The memory that only the start of the daemon needs.

use procfs::process::{MMPermissions, MMapPath, Process};
use rustix::mm::{Advice, madvise};

/// Has all threads share one heap. The C library would give each thread its own, most of which stays unused: the
/// daemon's threads seldom allocate. Meant to be called before the first thread starts.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free memory to the kernel, and unmaps the pages of the program's code.
///
/// To attach the eBPF programs is to read the kernel's type descriptions, which take more memory for a moment than all
/// that the daemon keeps. The C library's allocator would keep it. Of the code, a third of the mapped pages are those of
/// the start. A page that is used again is mapped again, from the page cache.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` moves no memory in use, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    unmap_code();
}

/// Without `/proc`, the pages stay mapped.
fn unmap_code() {
    let code = MMPermissions::READ | MMPermissions::EXECUTE | MMPermissions::PRIVATE;
    let Ok(program) = std::env::current_exe() else { return };
    let Ok(maps) = Process::myself().and_then(|this| this.maps()) else { return };
    for map in maps.iter().filter(|map| map.perms == code) {
        let (start, end) = map.address;
        if matches!(&map.pathname, MMapPath::Path(path) if *path == program) {
            // SAFETY: the kernel maps the pages of this file again when they are used. Nothing writes to pages of this
            // mapping, so that none differs from the file.
            let _ = unsafe { madvise(start as *mut _, (end - start) as usize, Advice::LinuxDontNeed) };
        }
    }
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
            unmap_code();
            resident_code() < before
        };
        assert!((0..100).any(|_| shrinks()));
    }
}
