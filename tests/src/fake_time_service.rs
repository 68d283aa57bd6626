//! A fake of a time service such as chronyd: it tells the kernel that the clock is kept, and how far off it is, and leaves the
//! clock alone.

use std::time::Duration;

use crate::parts::available;

/// What it reports lasts until this is dropped; then no service keeps the clock, as before.
#[derive(Debug)]
pub struct FakeTimeService(());

impl FakeTimeService {
    /// Starts one; None where a real one is at work, or this process may not set the clock.
    pub fn start() -> Option<Self> {
        let (_, now) = tell(libc::timex { modes: 0, ..nothing() });
        let is_free = now.status & libc::STA_UNSYNC != 0;
        if !available(is_free, "a clock that no time service keeps") {
            return None;
        }
        let this = Self(());
        let told = this.tell_estimate(Duration::ZERO);
        available(told, "the right to set the clock (CAP_SYS_TIME)").then_some(this)
    }

    /// It estimates that the clock is off by so much.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn says(&self, off: Duration) {
        assert!(self.tell_estimate(off), "adjtimex: {}", std::io::Error::last_os_error());
    }

    fn tell_estimate(&self, off: Duration) -> bool {
        let micros = libc::c_long::try_from(off.as_micros()).unwrap_or(libc::c_long::MAX);
        let (state, _) = tell(libc::timex {
            modes: libc::ADJ_STATUS | libc::ADJ_ESTERROR | libc::ADJ_MAXERROR,
            status: 0,
            esterror: micros,
            maxerror: 0,
            ..nothing()
        });
        state >= 0
    }
}

impl Drop for FakeTimeService {
    fn drop(&mut self) {
        let unkept = 16_000_000;
        tell(libc::timex {
            modes: libc::ADJ_STATUS | libc::ADJ_ESTERROR | libc::ADJ_MAXERROR,
            status: libc::STA_UNSYNC,
            esterror: unkept,
            maxerror: unkept,
            ..nothing()
        });
    }
}

const fn nothing() -> libc::timex {
    // SAFETY: it is plain data.
    unsafe { std::mem::zeroed() }
}

fn tell(mut timex: libc::timex) -> (i32, libc::timex) {
    // SAFETY: the call reads and fills in the structure alone.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state, timex)
}
