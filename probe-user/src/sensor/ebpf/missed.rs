//! Skipped runs of the programs. The kernel does not run a program on a CPU that is already running it, for example
//! when a timer interrupts it. The record of that run is lost.
//!
//! The kernel counts these by program (`recursion_misses`, since Linux 5.12) and shows the count in `fdinfo`.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
};

use aya::Ebpf;

use super::coverage::Hook;
use crate::sensor::loss::{Loss, LossClass, LossPlace};

/// Size of a program's `fdinfo`: a dozen short lines.
const INFO: usize = 1024;

#[derive(Debug, Default)]
pub struct Missed(Vec<Count>);

#[derive(Debug)]
struct Count {
    hook: Hook,
    /// The program's `fdinfo`. It is read once a second, so it stays open.
    file: File,
    reported: u64,
}

impl Missed {
    /// Counts for the given hooks whose programs are loaded.
    pub fn of(ebpf: &Ebpf, hooks: impl Iterator<Item = Hook>) -> Self {
        let count = |hook: Hook| {
            let descriptor = ebpf.program(hook.tracepoint())?.fd().ok()?;
            let file = File::open(format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd())).ok()?;
            Some(Count { hook, file, reported: 0 })
        };
        Self(hooks.filter_map(count).collect())
    }

    /// Skipped runs since the last call, by hook.
    pub fn losses(&mut self) -> impl Iterator<Item = Loss> {
        self.0.iter_mut().filter_map(|count| {
            let mut info = [0; INFO];
            let length = count.file.read_at(&mut info, 0).ok()?;
            let total = misses(&String::from_utf8_lossy(&info[..length]))?;
            let before = std::mem::replace(&mut count.reported, total);
            let place = LossPlace::Hook(count.hook);
            (total > before).then_some(Loss { class: LossClass::Missed, place, count: total - before })
        })
    }
}

fn misses(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_count_if_there_is_one() {
        let info = "pos:\t0\nprog_type:\t17\nmemlock:\t4096\nrecursion_misses:\t12\n";
        assert_eq!(misses(info), Some(12));
        assert_eq!(misses("pos:\t0\nprog_type:\t17\n"), None);
    }
}
