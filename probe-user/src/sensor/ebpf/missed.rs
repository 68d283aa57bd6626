//! Runs of the programs that the kernel left out: it does not run a program on a CPU that is running it already, as when a
//! timer interrupts it, and what would have been told then is lost.
//!
//! The kernel counts these by program (`recursion_misses`, since Linux 5.12), and shows the count to whoever has a
//! descriptor of it.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
};

use aya::Ebpf;

use super::{coverage::Hook, loss::Loss};

/// Room for what the kernel says of a descriptor: a dozen short lines.
const INFO: usize = 1024;

/// The counts of the attached programs.
#[derive(Debug, Default)]
pub struct Missed(Vec<Count>);

#[derive(Debug)]
struct Count {
    hook: Hook,
    /// What the kernel says of the descriptor of the program; it is read once a second, and so stays open.
    file: File,
    told: u64,
}

impl Missed {
    /// Begins to count for those of these hooks whose programs are loaded.
    pub fn of(ebpf: &Ebpf, hooks: impl Iterator<Item = Hook>) -> Self {
        let count = |hook: Hook| {
            let descriptor = ebpf.program(hook.tracepoint())?.fd().ok()?;
            let file = File::open(format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd())).ok()?;
            Some(Count { hook, file, told: 0 })
        };
        Self(hooks.filter_map(count).collect())
    }

    /// The runs that were left out since the last call, by hook.
    pub fn losses(&mut self) -> impl Iterator<Item = Loss> {
        self.0.iter_mut().filter_map(|count| {
            let mut info = [0; INFO];
            let length = count.file.read_at(&mut info, 0).ok()?;
            let total = misses(&String::from_utf8_lossy(&info[..length]))?;
            let before = std::mem::replace(&mut count.told, total);
            let place = count.hook.tracepoint();
            (total > before).then_some(Loss { class: "missed", place, count: total - before })
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
    fn the_count_is_found_where_there_is_one() {
        let info = "pos:\t0\nprog_type:\t17\nmemlock:\t4096\nrecursion_misses:\t12\n";
        assert_eq!(misses(info), Some(12));
        assert_eq!(misses("pos:\t0\nprog_type:\t17\n"), None);
    }
}
