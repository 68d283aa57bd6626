//! The limits that a service exceeds.

use crate::fact::{Limits, ResourceUsage};

/// So many samples in a row, above a limit or well below it, count. A single one is noise.
const SAMPLES: u32 = 2;

/// Well below a limit is this share of it.
const WELL_BELOW: f64 = 0.9;

/// The limits that are exceeded.
#[derive(Debug, Default)]
pub struct Breaches([Breach; 6]);

#[derive(Debug, Default)]
struct Breach {
    /// Samples in a row that contradict `words`.
    contrary: u32,
    /// The breach for people, while it lasts.
    words: Option<String>,
}

impl Breaches {
    pub fn take_in(&mut self, usage: ResourceUsage, limits: &Limits) {
        let whole = |limit: Option<u64>| limit.map(|limit| limit as f64);
        let measured = [
            ("cpu", "%", usage.cpu_percent, limits.cpu_percent),
            ("memory", "%", usage.memory_percent, limits.memory_percent),
            ("threads", "", usage.threads as f64, whole(limits.threads)),
            ("open files", "", usage.fds as f64, whole(limits.fds)),
            ("share of the tightest limit on threads", "%", usage.threads_percent, limits.threads_percent),
            ("share of RLIMIT_NOFILE", "%", usage.fds_percent, limits.fds_percent),
        ];
        for (breach, (name, unit, used, limit)) in self.0.iter_mut().zip(measured) {
            if let Some(limit) = limit {
                let words = format!("{name} {used:.0}{unit} is above its limit of {limit:.0}{unit}");
                breach.take_in(used, limit, words);
            }
        }
    }

    /// All breaches for people.
    pub fn words(&self) -> Option<String> {
        let words: Vec<&str> = self.0.iter().filter_map(|breach| breach.words.as_deref()).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl Breach {
    fn take_in(&mut self, used: f64, limit: f64, words: String) {
        let contrary = match self.words {
            None => used > limit,
            Some(_) => used <= limit * WELL_BELOW,
        };
        self.contrary = if contrary { self.contrary + 1 } else { 0 };
        if self.contrary == SAMPLES {
            self.contrary = 0;
            self.words = self.words.is_none().then_some(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_begins_and_ends_after_several_samples() {
        let mut breach = Breach::default();
        let mut see = |used: f64| {
            breach.take_in(used, 100.0, format!("{used}"));
            breach.words.clone()
        };
        assert_eq!(see(101.0), None, "one sample is noise");
        assert_eq!(see(99.0), None);
        assert_eq!(see(101.0), None);
        assert_eq!(see(102.0).as_deref(), Some("102"));
        assert_eq!(see(95.0).as_deref(), Some("102"), "just below is not well below");
        assert_eq!(see(90.0).as_deref(), Some("102"));
        assert_eq!(see(95.0).as_deref(), Some("102"));
        assert_eq!(see(90.0).as_deref(), Some("102"));
        assert_eq!(see(80.0), None);
    }
}
