//! How long deliveries wait.

use std::time::Duration;

/// The timeouts and intervals of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of one request, from connect to answer.
    pub timeout: Duration,
    /// The wait before the second attempt. It doubles with each attempt…
    pub first_retry: Duration,
    /// … up to this.
    pub longest_retry: Duration,
    /// Between two reminders of firing alerts. Alertmanager resolves an alert that is not repeated.
    pub refresh: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(60),
            refresh: Duration::from_secs(60),
        }
    }
}

impl Pace {
    /// The wait after so many failed attempts.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        self.first_retry.saturating_mul(1 << doublings).min(self.longest_retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let pace = Pace::default();
        let waits: Vec<u64> =
            [1, 2, 3, 6, 7, 4_000_000_000].map(|attempts| pace.backoff(attempts).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
    }
}
