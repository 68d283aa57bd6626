//! The control probe: it measures how late the daemon itself is, because the result of a probe would be as late.
//!
//! Each second the control probe waits for a timer and exchanges a byte over a loopback connection to the daemon
//! itself. Both use what every probe uses: the runtime, the scheduler's queue for the daemon's thread, the network
//! stack and the readiness of a socket. The connection stays open: a new one each second would cost more and leave
//! sockets in other programs' listings. It takes no time from the services.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::probe::next_tick;

/// Time between two runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// A longer exchange will not end: loopback is down or filtered.
const PATIENCE: Duration = Duration::from_secs(5);

/// The control probe; dropping it ends it.
#[derive(Debug)]
pub struct ControlProbe {
    lateness: Arc<Lateness>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Lateness {
    began: Instant,
    /// The largest delay since the last call, in nanoseconds.
    worst: AtomicU64,
    /// When the present run was due, in nanoseconds since the start; 0 without a run.
    due: AtomicU64,
}

impl ControlProbe {
    /// Starts the control probe on the Tokio runtime of the probes. It runs at whole seconds from `epoch` on, as they do, so
    /// that the runtime wakes once for all of them.
    pub(crate) fn start(epoch: Instant) -> Self {
        let lateness =
            Arc::new(Lateness { began: Instant::now(), worst: AtomicU64::new(0), due: AtomicU64::new(0) });
        let task = tokio::spawn(keep_running(epoch, Arc::clone(&lateness))).abort_handle();
        Self { lateness, task }
    }

    /// The largest delay since the last call. A run that has not ended counts with its delay so far.
    pub(crate) fn take(&self) -> Duration {
        let lateness = &self.lateness;
        let worst = Duration::from_nanos(lateness.worst.swap(0, Ordering::Relaxed));
        match lateness.due.load(Ordering::Relaxed) {
            0 => worst,
            due => worst.max(lateness.began.elapsed().saturating_sub(Duration::from_nanos(due))),
        }
    }
}

impl Drop for ControlProbe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_running(epoch: Instant, lateness: Arc<Lateness>) {
    // Without loopback, the timer alone is measured.
    let mut loopback = Loopback::connect().await.ok();
    loop {
        let due = next_tick(epoch, INTERVAL, Instant::now());
        lateness.due.store(nanos(due - lateness.began), Ordering::Relaxed);
        sleep_until(due).await;
        let mut counts = true;
        if let Some(connection) = &mut loopback
            && !matches!(timeout(PATIENCE, connection.exchange()).await, Ok(Ok(())))
        {
            tracing::warn!(
                "hostprobe: lost the loopback connection of the control probe; only the timer is measured from now on"
            );
            loopback = None;
            // This says nothing about time.
            counts = false;
        }
        lateness.due.store(0, Ordering::Relaxed);
        if counts {
            lateness.worst.fetch_max(nanos(due.elapsed()), Ordering::Relaxed);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Both ends of a connection to the daemon itself.
struct Loopback {
    client: TcpStream,
    server: TcpStream,
}

impl Loopback {
    async fn connect() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (server, from) = listener.accept().await?;
        // Another process may have connected first.
        if from != client.local_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { client, server })
    }

    async fn exchange(&mut self) -> io::Result<()> {
        self.client.write_all(&[1]).await?;
        let byte = self.server.read_u8().await?;
        self.server.write_all(&[byte]).await?;
        self.client.read_u8().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_byte_goes_to_and_fro() {
        let mut loopback = Loopback::connect().await.unwrap();
        for _ in 0..3 {
            timeout(Duration::from_secs(60), loopback.exchange()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_held_up_is_late_and_then_is_not() {
        let control = ControlProbe::start(Instant::now());
        let lateness = Arc::clone(&control.lateness);
        while lateness.due.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        // The measured fault: the runtime's only thread is busy while the run is due.
        let until = INTERVAL + Duration::from_millis(300);
        std::thread::sleep(until);
        assert!(control.take() >= Duration::from_millis(200), "it says so while it still waits");
        while lateness.worst.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let late = control.take();
        assert!(late >= Duration::from_millis(200) && late < Duration::from_secs(30), "{late:?}");
        assert!(control.take() < late, "each delay is returned once");
    }
}
