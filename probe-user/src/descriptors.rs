//! The daemon's file descriptors: as many as the host allows, and some kept for what must not fail.
//!
//! A start or a restart takes a few descriptors. Without them a killed service stays down, although nothing is wrong with
//! it. So a few are kept open and given up for the time of such a call.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// One start takes eleven: output (found and opened, and three for its pipe), input, both ends of another pipe, cgroup,
/// pidfd, and the queue of events.
const RESERVED: usize = 16;

static RESERVE: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// The limit before it was raised: the programs that the daemon starts get it back.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit on descriptors to the hard one, and keeps some for restarts.
pub fn prepare() {
    let inherited = getrlimit(Resource::Nofile);
    if inherited.current != inherited.maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: inherited.maximum, ..inherited }) {
            Ok(()) => _ = INHERITED.set(inherited),
            Err(error) => {
                tracing::warn!("descriptors: could not raise the limit of {:?}: {error}", inherited.current);
            }
        }
    }
    fill(&mut reserve());
}

/// The limit that the daemon was started with, for its children; None if it has not been raised. `prlimit(1)` may have
/// lowered the daemon's own limit since, and without a capability no child can go above that.
pub fn inherited() -> Option<Rlimit> {
    let inherited = INHERITED.get()?;
    let most = getrlimit(Resource::Nofile).maximum;
    let within = |limit: Option<u64>| limit.into_iter().chain(most).min();
    Some(Rlimit { current: within(inherited.current), maximum: within(inherited.maximum) })
}

/// Does what must not fail because no descriptor is left. If it does, it is tried again with those in reserve.
pub fn reserved<T, E>(
    mut work: impl FnMut() -> Result<T, E>,
    is_exhausted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    match work() {
        Err(error) if is_exhausted(&error) => {
            // The lock is not held during the work, which may need the reserve itself.
            reserve().clear();
            let done = work();
            fill(&mut reserve());
            done
        }
        done => done,
    }
}

/// Whether an error says that the process, or the host, has no descriptors left.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether an error says that this process, or the host, lacks descriptors, memory or threads. It is no fault of what was
/// to be started.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    is_exhausted(error) || matches!(errno, Some(libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS))
}

fn reserve() -> MutexGuard<'static, Vec<OwnedFd>> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fill(reserve: &mut Vec<OwnedFd>) {
    while reserve.len() < RESERVED {
        // What cannot be kept now is kept after the next use.
        let Ok(kept) = openat(CWD, "/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
            return;
        };
        reserve.push(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_fail_is_tried_again_with_the_reserve() {
        prepare();
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        let kept = || reserve().len();
        let mut tries = 0;
        let done = reserved(
            || {
                tries += 1;
                if tries == 1 { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(tries) }
            },
            is_exhausted,
        );
        assert_eq!(done.unwrap(), 2);
        assert_eq!(kept(), RESERVED);
        let denied = || Err::<(), _>(io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(reserved(denied, is_exhausted).unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
