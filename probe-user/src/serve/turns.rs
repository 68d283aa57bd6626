//! The CPU time that answers take: a part of one CPU, however many clients ask without end.
//!
//! The daemon has one thread. An answer takes up to a millisecond, and 32 clients that ask again as soon as they have
//! theirs would hold up the detection of a death by as many. So answers are made one after the other, with rests between.

use std::{future::Future, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// A rest is so many times as long as the answer before it.
const REST: u32 = 4;

/// The shortest rest after an answer: a request also costs its way through the kernel and the parser.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// Where answers wait for their turn, in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Turns {
    /// When the next answer may begin. Before the first one: at once.
    due: Mutex<Option<Instant>>,
    shortest_rest: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self::with_rests_of(SHORTEST_REST)
    }
}

impl Turns {
    /// Turns with rests of at least this length.
    pub(super) fn with_rests_of(shortest_rest: Duration) -> Self {
        Self { due: Mutex::default(), shortest_rest }
    }

    /// Waits for its turn, and makes an answer.
    pub(super) async fn take<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut due = self.due.lock().await;
        if let Some(due) = *due {
            sleep_until(due).await;
        }
        let begun = Instant::now();
        let made = answer.await;
        let took = begun.elapsed();
        *due = Some(begun + took + (took * REST).max(self.shortest_rest));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_rest_in_proportion_and_the_first_does_not_wait() {
        let turns = Turns::default();
        let long = Duration::from_millis(10);
        let begun = Instant::now();
        turns.take(tokio::time::sleep(long)).await;
        assert_eq!(begun.elapsed(), long);
        tokio::join!(turns.take(async {}), turns.take(async {}));
        let rests = long * REST + SHORTEST_REST;
        // Timers are as fine as a millisecond.
        assert!(begun.elapsed() >= long + rests, "{:?}", begun.elapsed());
        assert!(begun.elapsed() <= long + rests + Duration::from_millis(5), "{:?}", begun.elapsed());
    }
}
