//! A service's restart budget and the waits between restarts.

use std::{collections::VecDeque, time::Duration};

use crate::{clock::Timestamp, fact::RestartPolicy};

/// Once the budget is spent, the wait is at least this.
const LONG: Duration = Duration::from_secs(60);

/// The restarts of one service within its window.
#[derive(Debug)]
pub struct Budget {
    allowed: u32,
    window: Duration,
    backoff_first: Duration,
    backoff_max: Duration,
    spent: VecDeque<Timestamp>,
}

impl Budget {
    pub fn new(policy: &RestartPolicy) -> Self {
        let mut budget = Self {
            allowed: 0,
            window: Duration::ZERO,
            backoff_first: Duration::ZERO,
            backoff_max: Duration::ZERO,
            spent: VecDeque::new(),
        };
        budget.configure(policy);
        budget
    }

    /// A reload changed the policy. What is spent stays spent.
    pub fn configure(&mut self, policy: &RestartPolicy) {
        self.allowed = policy.budget;
        self.window = policy.budget_window;
        self.backoff_first = policy.backoff_first;
        self.backoff_max = policy.backoff_max;
        let allowed = usize::try_from(self.allowed).unwrap_or(usize::MAX);
        self.spent.drain(..self.spent.len().saturating_sub(allowed));
    }

    /// How many restarts are left at `now`.
    pub fn left(&mut self, now: Timestamp) -> u32 {
        while self.spent.front().is_some_and(|&then| now.since(then) >= self.window) {
            self.spent.pop_front();
        }
        self.allowed.saturating_sub(u32::try_from(self.spent.len()).unwrap_or(u32::MAX))
    }

    /// Counts a restart by hostprobe or another supervisor.
    pub fn spend(&mut self, now: Timestamp) {
        if self.left(now) == 0 {
            self.spent.pop_front();
        }
        if self.allowed > 0 {
            self.spent.push_back(now);
        }
    }

    /// The restarts that count, by their times.
    pub fn spent(&self) -> &VecDeque<Timestamp> {
        &self.spent
    }

    /// Counts the restarts of an earlier run of the daemon.
    pub fn restore(&mut self, spent: &[Timestamp], now: Timestamp) {
        for at in spent {
            self.spent.push_back((*at).min(now));
        }
        let allowed = usize::try_from(self.allowed).unwrap_or(usize::MAX);
        self.spent.drain(..self.spent.len().saturating_sub(allowed));
    }

    /// The wait before attempt `attempt` (from 1) of an incident: none before the first, then doubling.
    pub fn backoff(&self, attempt: u32) -> Duration {
        match attempt {
            0 | 1 => Duration::ZERO,
            _ => {
                let factor = 1_u32.checked_shl(attempt - 2).unwrap_or(u32::MAX);
                self.backoff_first.saturating_mul(factor).min(self.backoff_max)
            }
        }
    }

    /// The wait once the budget is spent.
    pub fn long_backoff(&self) -> Duration {
        self.backoff_max.max(LONG)
    }

    /// Such as "5 per 10m".
    pub fn describe(&self) -> String {
        format!("{} per {}", self.allowed, describe(self.window))
    }
}

/// A duration in the notation of the configuration.
pub fn describe(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.into_iter().find(|(_, length)| ms > 0 && ms.is_multiple_of(*length)) {
        Some((unit, length)) => format!("{}{unit}", ms / length),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn budget() -> Budget {
        Budget::new(&RestartPolicy {
            budget: 2,
            budget_window: Duration::from_secs(60),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5),
            ..RestartPolicy::default()
        })
    }

    #[test]
    fn spent_restarts_return_to_the_budget_after_its_window() {
        let mut budget = budget();
        budget.spend(at(10));
        budget.spend(at(20));
        assert_eq!(budget.left(at(69)), 0);
        assert_eq!(budget.left(at(70)), 1);
        assert_eq!(budget.left(at(80)), 2);
    }

    #[test]
    fn the_first_restart_does_not_wait_and_later_ones_wait_up_to_the_cap() {
        let waits: Vec<u64> = (1..=6).map(|attempt| budget().backoff(attempt).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 5, 5]);
        assert_eq!(budget().backoff(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn a_new_policy_keeps_what_is_spent() {
        let mut budget = budget();
        budget.spend(at(10));
        budget.spend(at(20));
        budget.configure(&RestartPolicy {
            budget: 3,
            budget_window: Duration::from_secs(60),
            ..RestartPolicy::default()
        });
        assert_eq!(budget.left(at(30)), 1);
        budget.configure(&RestartPolicy {
            budget: 1,
            budget_window: Duration::from_secs(60),
            ..RestartPolicy::default()
        });
        assert_eq!(budget.left(at(30)), 0);
        assert_eq!(budget.left(at(79)), 0, "the latest one stays spent");
        assert_eq!(budget.left(at(80)), 1);
    }
}
