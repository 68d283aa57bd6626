//! A write that the kernel works on for long, and that a signal ends.
//!
//! The write of `memory.max` goes on reclaiming and killing until the group uses no more than what was written, even if
//! the file has another limit by then. It ends early when its thread has a signal to handle (`memory_max_write` in
//! mm/memcontrol.c).

use std::{
    fs::File,
    io::{self, Write as _},
    mem,
    os::unix::thread::JoinHandleExt,
    path::Path,
    ptr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Nothing else sends this signal: no socket has an owner.
const SIGNAL: libc::c_int = libc::SIGURG;

/// How long a cancelled write may take to end: the kernel looks for a signal between two rounds of reclaim.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(1);

/// One write to one file, on a thread of its own.
#[derive(Debug)]
pub(super) struct Write(JoinHandle<()>);

impl Write {
    /// Opens the file, and begins to write.
    pub(super) fn start(path: &Path, text: Vec<u8>) -> io::Result<Self> {
        handle_signal()?;
        let (mut file, path) = (File::options().write(true).open(path)?, path.to_owned());
        let thread = thread::Builder::new().name("drill".to_owned());
        let thread = thread.spawn(move || match file.write(&text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => tracing::warn!("{}: {error}", path.display()),
        });
        Ok(Self(thread?))
    }

    /// Ends it. Returns whether it has ended.
    pub(super) fn cancel(self) -> bool {
        let until = Instant::now() + PATIENCE;
        while !self.0.is_finished() {
            if Instant::now() >= until {
                return false;
            }
            // It may not be in the kernel yet, so that one signal is not enough.
            // SAFETY: the thread was neither joined nor detached, so that its handle is valid.
            unsafe { libc::pthread_kill(self.0.as_pthread_t() as libc::pthread_t, SIGNAL) };
            thread::sleep(INTERVAL);
        }
        true
    }
}

/// Has the signal handled: one that is ignored ends no call.
fn handle_signal() -> io::Result<()> {
    extern "C" fn handler(_: libc::c_int) {}
    // SAFETY: all zeros are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, and the action lives until the call returns.
    match unsafe { libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags};

    use super::*;

    #[test]
    fn a_write_that_blocks_ends_when_it_is_cancelled_and_one_that_is_done_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        // Nobody reads, and more is written than the pipe takes.
        let _reader = rustix::fs::open(&pipe, OFlags::RDWR, Mode::empty()).unwrap();
        let write = Write::start(&pipe, vec![0; 4 << 20]).unwrap();
        assert!(!write.0.is_finished());
        assert!(write.cancel());

        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let write = Write::start(&file, b"1".to_vec()).unwrap();
        while !write.0.is_finished() {
            thread::yield_now();
        }
        assert!(write.cancel());
        assert_eq!(std::fs::read(&file).unwrap(), b"1");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        assert!(Write::start(Path::new("/nowhere/memory.max"), Vec::new()).is_err());
    }
}
