//! The control probe: how late the daemon's own work is, which is how late a probe's result would be.
//!
//! Each second a timer is waited for, and a byte goes to and fro over a loopback connection that the daemon has
//! with itself. Both pass through what every probe passes through: the runtime, the scheduler's queue for the
//! daemon's thread, the network stack and the readiness of a socket. The connection is kept: a new one each second
//! would cost more, and leave sockets behind for others to see. No time is taken from the services.

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

/// Time between two runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// An exchange that takes longer than this will not come back: loopback was taken down, or filtered.
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
    /// The most since it was last asked for, in nanoseconds.
    worst: AtomicU64,
    /// When the run under way was due, in nanoseconds since it began; 0 if there is none.
    due: AtomicU64,
}

impl ControlProbe {
    /// Starts it. Needs a Tokio runtime, the one that the probes run on.
    pub(crate) fn start() -> Self {
        let lateness =
            Arc::new(Lateness { began: Instant::now(), worst: AtomicU64::new(0), due: AtomicU64::new(0) });
        let task = tokio::spawn(keep_running(Arc::clone(&lateness))).abort_handle();
        Self { lateness, task }
    }

    /// By how much it was late at worst since this was last asked; of a run that has not ended, so far.
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

async fn keep_running(lateness: Arc<Lateness>) {
    // Where there is no loopback, the timer alone has to do.
    let mut loopback = Loopback::connect().await.ok();
    let mut due = Instant::now();
    loop {
        due = (due + INTERVAL).max(Instant::now());
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
            // That says nothing about time.
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

/// Both ends of a connection with oneself.
struct Loopback {
    client: TcpStream,
    server: TcpStream,
}

impl Loopback {
    async fn connect() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (server, from) = listener.accept().await?;
        // Somebody else may have been quicker to connect.
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
        let control = ControlProbe::start();
        let lateness = Arc::clone(&control.lateness);
        while lateness.due.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        // The fault itself: the runtime's only thread does something else while the run is due.
        let until = INTERVAL + Duration::from_millis(300);
        std::thread::sleep(until);
        assert!(control.take() >= Duration::from_millis(200), "it says so while it still waits");
        while lateness.worst.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let told = control.take();
        assert!(told >= Duration::from_millis(200) && told < Duration::from_secs(30), "{told:?}");
        assert!(control.take() < told, "it is told once");
    }
}
