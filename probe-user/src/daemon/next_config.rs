//! The configuration that a reload reads, with what has to be opened before it takes effect.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    act::container::add_labelled,
    bounded_thread,
    config::{Config, EventOutput},
    emit::{Sink, open_outputs},
    host::ProcReader,
};

/// How long the files may take to be read: their file system may not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A valid configuration that may take the place of the running one.
pub struct NextConfig {
    pub(super) config: Config,
    /// The outputs of the events, if they are others.
    pub(super) outputs: Option<Vec<Sink>>,
}

impl NextConfig {
    /// Reads the file, and opens what is new in it. The error says what is wrong, with its places.
    pub(super) async fn read(
        file: Option<PathBuf>,
        events: Option<Vec<EventOutput>>,
        running: Arc<Config>,
    ) -> Result<Self, String> {
        let Some(file) = file else { return Err("there is no configuration file to read".to_owned()) };
        let read = bounded_thread::answer("reload", PATIENCE, move || Config::load(&file)).await;
        let loaded = read.map_err(|error| format!("the configuration file cannot be read: {error}"))?;
        let mut config = loaded.map_err(|errors| errors.to_string())?;
        if config.containers.discover
            && let Ok(reader) = ProcReader::new("/")
        {
            add_labelled(&mut config, Some(&running), &reader).await;
        }
        if let Some(events) = events {
            config.events = events;
        }
        let outputs = if (&config.events, config.event_files) == (&running.events, running.event_files) {
            None
        } else {
            let opened = open_outputs(&config.events, config.event_files).await;
            Some(opened.map_err(|error| format!("events.output: {error}"))?)
        };
        Ok(Self { config, outputs })
    }
}
