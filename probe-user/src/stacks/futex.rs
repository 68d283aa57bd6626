//! Waits whose reason is in the memory of the process: locks, and the descriptors of `poll`.

use super::{
    memory::read_exactly,
    reason::{Reason, WaitingThread},
};

/// The value that glibc, musl and Rust give to a lock with waiting threads.
const CONTENDED: u32 = 2;

/// The most descriptors of a `poll` that are looked at. With more, it waits for work.
const POLLED_MAX: u64 = 16;

/// What a thread waits for in `futex(uaddr, op, val, …)`.
pub fn wait(thread: &WaitingThread<'_>, arguments: &[u64; 6]) -> Reason {
    let [address, operation, value, ..] = *arguments;
    let operation = operation as i32;
    let command = operation & libc::FUTEX_CMD_MASK;
    let pid = i32::try_from(thread.pid).unwrap_or_default();
    let other = |tid: u32| thread.tids.contains(&tid) && tid != thread.tid;
    if command == libc::FUTEX_LOCK_PI {
        // The kernel's own form: the word is the owner (`futex(2)`).
        let owner = words(pid, address).map(|[word, ..]| word & libc::FUTEX_TID_MASK);
        return Reason::Lock { owner: owner.filter(|tid| other(*tid)) };
    }
    let is_private = operation & libc::FUTEX_PRIVATE_FLAG != 0;
    // The C library waits for the end of a thread at the place that the kernel clears then (`set_tid_address(2)`).
    let awaited = value as u32;
    if !is_private && other(awaited) {
        return Reason::ThreadEnd(Some(awaited));
    }
    if value as u32 != CONTENDED || ![libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET].contains(&command) {
        return Reason::Wakeup;
    }
    // A `pthread_mutex_t` of glibc begins with the lock, a count and the owner.
    let owner = words(pid, address).map(|[_, _, owner]| owner);
    Reason::Lock { owner: owner.filter(|tid| other(*tid)) }
}

/// The only descriptor of a `poll(fds, nfds, …)`.
pub fn polled(pid: u32, arguments: &[u64; 6]) -> Option<u64> {
    let [address, count, ..] = *arguments;
    let mut only = None;
    for index in 0..count.min(POLLED_MAX) {
        let mut entry = [0; 8];
        let at = address.checked_add(index * 8)?;
        if !read_exactly(i32::try_from(pid).ok()?, at, &mut entry) {
            return None;
        }
        let number = i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
        // One that is negative is left out.
        if let Ok(number) = u64::try_from(number)
            && only.replace(number).is_some()
        {
            return None;
        }
    }
    only.filter(|_| count <= POLLED_MAX)
}

fn words(pid: i32, address: u64) -> Option<[u32; 3]> {
    let mut bytes = [0; 12];
    let word = |bytes: &[u8; 12], at: usize| {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    read_exactly(pid, address, &mut bytes).then(|| [word(&bytes, 0), word(&bytes, 4), word(&bytes, 8)])
}
