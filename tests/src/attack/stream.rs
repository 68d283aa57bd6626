//! An event stream that is not read.

use std::path::Path;

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};

use super::{
    plan::{LONG, Plan},
    reader::BlockedReader,
};
use crate::{
    daemon::Daemon,
    storm::{Manner, Storm},
};

/// Each death is a line of about a kilobyte; the daemon's queue has room for 8 MiB.
const DEATHS: u64 = 40_000;

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
