//! The memory that only the start of the daemon needs.

/// Gives what is free back to the kernel. To attach to the kernel is to read descriptions of its types, which take more
/// room for a moment than all that the daemon keeps; the C library's allocator would hold on to it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it moves nothing that is in use, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
