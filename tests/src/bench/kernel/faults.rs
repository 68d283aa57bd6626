//! Faults of the host.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    bench::{
        bpf_stats::{Empty, Programs},
        section::{Effort, Row, Unit},
    },
    daemon::{Daemon, event_action},
    host_faults::{FIRST_BAD_SECTOR, ShortDisk, read_sector},
    kernel_hooks::possible,
};
use hostprobe::sensor::ebpf::Hook;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A disk that fails reads: the first is reported, and the hook only counts the others.
pub fn measure(effort: Effort) -> Result<Vec<Row>> {
    let (rounds, reads) = (effort.pick(12, 2), effort.pick(3000, 1000));
    let hook = Hook::BlockError;
    let Some(disk) = ShortDisk::new().filter(|_| possible().contains(&hook)) else { return Ok(Vec::new()) };
    let (mut own, mut empty) = (Vec::new(), Vec::new());
    let fail = |pid: u32| -> Result<f64> {
        let before = Programs::of(pid)?;
        for _ in 0..reads {
            ensure!(read_sector(disk.path(), FIRST_BAD_SECTOR).is_err(), "{} can be read", disk.name());
        }
        let taken = Programs::of(pid)?.since(&before).at(hook.tracepoint());
        ensure!(taken.runs >= reads, "{} failed reads of {reads}", taken.runs);
        Ok(taken.mean())
    };
    // The first round only warms up.
    for round in 0..=rounds {
        if round == 1 {
            (own, empty) = Default::default();
        }
        let daemon = Daemon::start("[http]\nlisten = \"\"\n[host]\nfilesystems = false\n", &[]);
        daemon.ready();
        read_sector(disk.path(), FIRST_BAD_SECTOR).expect_err("its file ends there");
        daemon.wait_for(|event| event_action(event) == "host.state", LONG);
        own.push(fail(daemon.pid())?);
        drop(daemon);
        let _empty = Empty::attach(hook.tracepoint())?;
        empty.push(fail(std::process::id())?);
    }
    Ok(vec![
        Row::new("kernel time per failed request of a disk, counted", Unit::Nanoseconds)
            .of("hostprobe", &own)
            .of("an empty program", &empty)
            .at_most("", 200.0, |summary| summary.median)
            .note(
                "A disk fails each read. The first one is reported, and the others are counted, which the next report tells. A \
                 request whose failure says nothing of the disk costs as much as the empty program. The tracepoints of hung \
                 tasks, disks, file systems and memory fire at faults only: without a fault they cost nothing.",
            ),
    ])
}
