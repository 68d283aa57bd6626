//! How a probe reads from a server that means it no good: in turn with everything else, and not byte by byte.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// So many bytes are read at a time; then the daemon's loop and the other probes have their turn.
const TURN: usize = 32 << 10;

/// A read of fewer bytes is a small one. An answer comes in a handful of reads, small ones among them.
const SMALL: usize = 64;
const SMALL_MAX: u32 = 32;

/// The wait before a further small read. Each read wakes the daemon; what comes meanwhile is read at once.
const REST: Duration = Duration::from_millis(20);

/// The pace at which a connection is read.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The bytes since the last turn of others.
    read: usize,
    small: u32,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Whether the next read may begin.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        if self.read >= TURN {
            self.read = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// A read brought so many bytes; none at the end of the connection. Whether a rest follows.
    pub(super) fn on_read(&mut self, bytes: usize) -> bool {
        self.read += bytes;
        self.small += u32::from((1..SMALL).contains(&bytes));
        let rests = self.small > SMALL_MAX && (1..SMALL).contains(&bytes);
        if rests {
            self.rest = Some(Box::pin(sleep(REST)));
        }
        rests
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_that_drip_are_read_many_at_a_time() {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            for _ in 0..500 {
                peer.write_all(b"x").await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        });
        let (mut pace, mut reads, mut bytes) = (Pace::default(), 0, 0);
        loop {
            poll_fn(|context| pace.poll_ready(context)).await;
            let read = socket.read(&mut [0; 4096]).await.unwrap();
            pace.on_read(read);
            bytes += read;
            reads += 1;
            if read == 0 {
                break;
            }
        }
        assert_eq!(bytes, 500);
        assert!(reads < 150, "{reads} reads");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_a_few_reads_is_not_held_up_and_a_long_one_lets_others_have_a_turn() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        for _ in 0..SMALL_MAX {
            poll_fn(|context| pace.poll_ready(context)).await;
            pace.on_read(1);
        }
        for _ in 0..100 {
            poll_fn(|context| pace.poll_ready(context)).await;
            pace.on_read(TURN / 2);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        pace.on_read(TURN);
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            pace.poll_ready(context)
        })
        .await;
        assert_eq!(polls, 2);
    }
}
