//! A reader of the event stream that does not read.

use std::{fs::File, io, os::fd::OwnedFd, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;

use crate::daemon::Daemon;

/// How long the daemon gets to write once it is read again.
const CATCH_UP: Duration = Duration::from_secs(3);

/// The reading end of a FIFO.
pub(super) struct BlockedReader(pub(super) OwnedFd);

impl BlockedReader {
    /// Reads all that the daemon has kept, and has it end.
    pub(super) fn read_until_the_end_of(self, daemon: &mut Daemon) -> Result<Vec<Value>> {
        fcntl_setfl(&self.0, OFlags::empty())?;
        let reading = thread::spawn(move || io::read_to_string(File::from(self.0)));
        thread::sleep(CATCH_UP);
        let status = daemon.stop();
        ensure!(status.success(), "the daemon does not end in order: {}", daemon.log());
        let text = reading.join().ok().context("the reader has ended early")??;
        text.lines().map(|line| serde_json::from_str(line).context("a line is no event")).collect()
    }
}
