//! What the daemon keeps between two reloads, and while one is under way.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::{
    config::EventOutput,
    fact::{Reload, ServiceId},
};

/// The reload under way, and the clients that wait for it or for the next one.
#[derive(Default)]
pub(super) struct ReloadState {
    pub(super) file: Option<PathBuf>,
    /// Where events go, whatever the file says.
    pub(super) events: Option<Vec<EventOutput>>,
    pub(super) is_under_way: bool,
    /// Another one was asked for after the one under way began to read.
    pub(super) is_next: bool,
    pub(super) waits: Vec<oneshot::Sender<Reload>>,
    pub(super) waits_for_next: Vec<oneshot::Sender<Reload>>,
    /// The first id that no service ever had.
    pub(super) next_id: u32,
    /// Commands that start once those of removed services have ended.
    pub(super) to_start: Vec<ServiceId>,
}

impl ReloadState {
    /// `next_id` is the first id that no service ever had.
    pub(super) fn new(file: Option<PathBuf>, events: Option<Vec<EventOutput>>, next_id: u32) -> Self {
        Self { file, events, next_id, ..Self::default() }
    }
}
