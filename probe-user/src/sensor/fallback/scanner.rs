//! Scans sockets every second on a thread of its own: a scan reads through `/proc`, which the daemon's loop cannot wait
//! for.

use std::future::pending;

use tokio::task::{JoinHandle, spawn_blocking};

use super::sockets::SocketScan;
use crate::{fact::ProcessKey, sensor::record::Record};

/// A scan that comes back with what it has found.
type Running = JoinHandle<(Box<SocketScan>, Vec<Record>)>;

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
        let Some(mut scan) = self.idle.take() else { return };
        self.running = Some(spawn_blocking(move || {
            let found = scan.scan(mains);
            (scan, found)
        }));
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
