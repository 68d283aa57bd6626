//! The memory that only the start of the daemon needs.

/// Returns free memory to the kernel. To attach the eBPF programs is to read the kernel's type descriptions, which
/// take more memory for a moment than all that the daemon keeps. The C library's allocator would keep it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` moves no memory in use, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
