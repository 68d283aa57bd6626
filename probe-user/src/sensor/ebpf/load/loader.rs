//! A loader that has not read the kernel's types.

use std::{io, thread};

use aya::EbpfLoader;
use rustix::thread::set_no_new_privs;

/// A loader without the kernel's types, of which this object needs none: globals hold the offsets.
///
/// `EbpfLoader::new` reads and parses all of them, some 100,000, whether they are wanted or not: on the way to the first
/// hook that takes longer than all else but the verifier. It goes without if it cannot open their file. So it is called by
/// a thread of its own that can open none.
pub fn loader() -> EbpfLoader<'static> {
    let make = || {
        if let Err(error) = open_nothing() {
            tracing::debug!("the loader reads the kernel's types: the thread may still open files: {error}");
        }
        EbpfLoader::new()
    };
    let made = thread::Builder::new().name("loader".to_owned()).spawn(make);
    let mut loader = made.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    loader.btf(None);
    loader
}

/// From now on, the calling thread cannot open files. No other thread is concerned.
fn open_nothing() -> io::Result<()> {
    // Without new privileges, no right is needed for a filter (`PR_SET_SECCOMP` in prctl(2)).
    set_no_new_privs(true)?;
    let step = |code: u32, jt, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let calls = [
        libc::SYS_openat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
    ];
    // The number of the call is the first field of `struct seccomp_data`.
    let mut steps = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    // Each of the calls jumps over those that follow it, and over the answer for all others.
    let jumps = (1..=calls.len() as u8).rev().zip(calls);
    steps.extend(
        jumps.map(|(over, call)| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, over, call as u32)),
    );
    steps.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    steps.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EACCES as u32));
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the filter and its steps outlive the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::ErrorKind};

    use super::*;

    #[test]
    fn only_the_thread_that_makes_the_loader_can_open_nothing() {
        let opened = thread::spawn(|| open_nothing().map(|()| File::open("/proc/self/stat").map(drop)));
        let error = opened.join().unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        File::open("/proc/self/stat").unwrap();
    }
}
