//! Scans sockets every second on a thread of its own: a scan reads through `/proc`, which the daemon's loop cannot wait
//! for.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::sockets::SocketScan;
use crate::{bounded_thread, fact::ProcessKey, sensor::record::Record};

/// A scan that comes back with what it has found.
type Running = oneshot::Receiver<(Box<SocketScan>, Vec<Record>)>;

#[derive(Debug)]
pub struct Scanner {
    /// None while a scan is under way.
    idle: Option<Box<SocketScan>>,
    running: Option<Running>,
    found: Vec<Record>,
}

impl Scanner {
    pub fn new(scan: SocketScan) -> Self {
        Self { idle: Some(Box::new(scan)), running: None, found: Vec::new() }
    }

    /// Starts a scan of the sockets of these main processes and their descendants, unless the one before still runs.
    pub fn start(&mut self, mains: Vec<ProcessKey>) {
        let Some(scan) = self.idle.take() else { return };
        // Where no thread can be started, the scan is not lost with it.
        let handed_over = Arc::new(Mutex::new(Some(scan)));
        let take = |scan: &Mutex<Option<_>>| scan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (done, running) = oneshot::channel();
        let scan = Arc::clone(&handed_over);
        let started = bounded_thread::start("sockets", move || {
            if let Some(mut scan) = take(&scan) {
                let found = SocketScan::scan(&mut scan, mains);
                // The daemon may have stopped.
                let _ = done.send((scan, found));
            }
        });
        match started {
            Ok(()) => self.running = Some(running),
            Err(error) => {
                tracing::warn!("sockets: cannot be scanned this second: {error}");
                self.idle = take(&handed_over);
            }
        }
    }

    /// Waits until a scan has ended. Cancel safe.
    pub async fn readable(&mut self) {
        let Some(running) = &mut self.running else { return pending().await };
        let ended = running.await;
        self.running = None;
        match ended {
            Ok((scan, found)) => {
                self.idle = Some(scan);
                self.found.extend(found);
            }
            Err(error) => tracing::error!(%error, "sockets are no longer scanned; restart hostprobe"),
        }
    }

    pub fn drain(&mut self, out: &mut Vec<Record>) {
        out.append(&mut self.found);
    }
}
