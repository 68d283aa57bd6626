//! A reader of the event stream that does not read.

use std::{fs::File, io, os::fd::OwnedFd, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, openat};
use serde_json::Value;

use super::{LONG, Plan};
use crate::{
    daemon::Daemon,
    storm::{Manner, Storm},
};

/// Each death is a line of about a kilobyte; the daemon's queue has room for 8 MiB.
const DEATHS: u64 = 40_000;

/// How long the daemon gets to write once it is read again.
const CATCH_UP: Duration = Duration::from_secs(3);

/// The reading end of a FIFO.
pub(super) struct BlockedReader(OwnedFd);

/// The daemon writes its stream into a FIFO that is full.
pub(super) fn blocked(folder: &Path) -> Result<Plan> {
    let stream = folder.join("stream");
    mknodat(CWD, &stream, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let reader = openat(CWD, &stream, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let config = format!(
        "[kernel]\nunwatched_exits_per_second = 1000000\n[events]\noutput = {:?}\n",
        stream.display().to_string()
    );
    let deaths = |_: &Daemon| {
        let mut storm = Storm::of(Manner::Signals, DEATHS);
        storm.begin();
        storm.process.wait(LONG);
        Ok(Vec::new())
    };
    Ok(Plan { config, begin: Some(Box::new(deaths)), reader: Some(BlockedReader(reader)), ..Plan::default() })
}

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
