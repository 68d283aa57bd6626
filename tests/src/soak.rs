//! A daemon under processes that come and go for a long time, and whether its memory stays what it was.

pub mod churn;
pub mod maps;
pub mod page;
pub mod run;
pub mod sample;

use std::{fmt, time::Duration};

use sample::Sample;

/// How often the daemon is looked at.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// What it may have grown by from the middle third of the time to the last one: by these bytes and this part of it.
///
/// The first third is for what is bounded to reach its bounds: the tables of processes and of incidents. From then on
/// nothing has a reason to grow; an allocator's fragments and a busy moment do.
const SLACK_BYTES: u64 = 1 << 20;
const SLACK_PERCENT: u64 = 5;

/// How many descriptors or threads more there may be.
const SLACK_COUNT: u64 = 4;

/// What a soak has shown.
#[derive(Debug)]
pub struct Findings {
    /// What was wrong; empty if nothing was.
    pub wrong: Vec<String>,
    /// The resident set in bytes: the first look's, the medians of the middle and of the last third, the largest.
    pub rss: [u64; 4],
}

/// Judges a row of looks at the daemon.
///
/// # Panics
/// If there are fewer than six.
pub fn judge(samples: &[Sample]) -> Findings {
    assert!(samples.len() >= 6, "{} looks are too few to judge by", samples.len());
    let third = samples.len() / 3;
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let median = |of: &[Sample], what: fn(&Sample) -> u64| {
        let mut figures: Vec<u64> = of.iter().map(what).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let mut wrong = Vec::new();
    let rss = |of| median(of, |sample| sample.rss);
    let (before, after) = (rss(middle), rss(last));
    if after > before + before * SLACK_PERCENT / 100 + SLACK_BYTES {
        wrong.push(format!("memory grew from {} to {}", Mib(before), Mib(after)));
    }
    for (name, what) in [("descriptors", (|it| it.fds) as fn(&Sample) -> u64), ("threads", |it| it.threads)] {
        let (before, after) = (median(middle, what), median(last, what));
        if after > before + SLACK_COUNT {
            wrong.push(format!("{name} grew from {before} to {after}"));
        }
    }
    for sample in samples {
        let over = sample.tables.iter().filter(|table| table.entries > table.limit);
        wrong.extend(
            over.map(|table| format!("{} has {} entries of {}", table.name, table.entries, table.limit)),
        );
    }
    let largest = samples.iter().map(|sample| sample.rss).max().unwrap_or_default();
    Findings { wrong, rss: [samples[0].rss, before, after, largest] }
}

/// An amount of memory as a person says it.
#[derive(Clone, Copy, Debug)]
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks whose memory is as `rss` says, from the number of the look.
    fn looks(rss: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..90).map(|at| Sample { rss: rss(at), fds: 40, threads: 3, tables: Vec::new() }).collect()
    }

    #[test]
    fn memory_that_fills_and_stays_is_flat_and_memory_that_leaks_is_not() {
        let flat = judge(&looks(|at| (20 << 20) + at.min(20) * (1 << 19) + at % 3 * 4096));
        assert_eq!(flat.wrong, [] as [String; 0]);
        // 100 KiB every ten seconds.
        let leak = judge(&looks(|at| (20 << 20) + at * 100 * 1024));
        assert_eq!(leak.wrong, ["memory grew from 24.4 MiB to 27.3 MiB"]);
        let mut more = looks(|_| 1 << 20);
        more.iter_mut().zip(0..).for_each(|(sample, at)| sample.fds = at);
        assert_eq!(judge(&more).wrong, ["descriptors grew from 45 to 75"]);
    }
}
