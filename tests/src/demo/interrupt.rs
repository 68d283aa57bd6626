//! Ctrl-C: the daemon hears it too and ends its services; the demonstration then ends as it always does, so that
//! nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    CAME.store(true, Ordering::SeqCst);
}

/// Takes note of it from now on, instead of ending at once.
pub(super) fn listen() {
    let handler: extern "C" fn(libc::c_int) = note;
    // SAFETY: the handler does nothing but to store into an atomic. A program that is started has the default
    // again.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
}

/// Whether it came.
pub(super) fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}
