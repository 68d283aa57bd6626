//! The connection to NATS, with bounds on what waits for it.

use std::{error::Error, path::PathBuf, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::mpsc;

use super::sign::{Keys, Signer, seed};
use crate::{config, escape::escaped, redact::redact, untrusted_file};

/// How long one connection may take.
const CONNECTION: Duration = Duration::from_secs(5);

/// How long an answer of the server may take.
pub(super) const ANSWER: Duration = Duration::from_secs(3);

/// How often the server is asked whether it is there. After two pings without an answer, the connection is over.
const PING: Duration = Duration::from_secs(2);

/// The longest wait before the next try to connect.
const RETRY_MOST: Duration = Duration::from_secs(4);

/// The most messages of one subscription that wait, and the most commands to the server.
const WAITING: usize = 1024;

/// The longest files of credentials and of keys, in bytes.
const CREDENTIALS_MAX: u64 = 16 << 10;
const KEYS_MAX: u64 = 16 << 20;

/// The fleet cannot be joined as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("fleet: the file {} {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("fleet.nats: {0}")]
    Address(String),
    #[error("fleet: its thread cannot be started: {0}")]
    Thread(#[from] crate::bounded_thread::NoAnswer),
}

/// What the files of the configuration hold.
pub(super) struct Files {
    credentials: Option<String>,
    pub signer: Option<Signer>,
    pub keys: Option<Keys>,
}

/// Reads the files that a fleet names.
pub(super) fn read_files(fleet: &config::Fleet) -> Result<Files, StartError> {
    let text = |path: &PathBuf, most: u64| {
        let failed = |why: String| StartError::File { path: path.clone(), why };
        let bytes = untrusted_file::read(path, most)
            .map_err(|error| failed(format!("cannot be read: {}", error.reason)))?;
        String::from_utf8(bytes).map_err(|_| failed("is no text".to_owned()))
    };
    let credentials = fleet.credentials_file.as_ref().map(|path| text(path, CREDENTIALS_MAX)).transpose()?;
    let signer = match (&credentials, &fleet.credentials_file) {
        (Some(credentials), Some(path)) if fleet.sign => {
            let signer = Signer::of_credentials(credentials);
            Some(signer.map_err(|why| StartError::File { path: path.clone(), why: format!(": {why}") })?)
        }
        (Some(_) | None, _) => None,
    };
    let keys = match &fleet.keys_file {
        None => None,
        Some(path) => Some(
            Keys::read(&text(path, KEYS_MAX)?)
                .map_err(|why| StartError::File { path: path.clone(), why: format!("is wrong: {why}") })?,
        ),
    };
    Ok(Files { credentials, signer, keys })
}

/// What a connection is made with. What happens to it is sent to `events`.
pub(super) fn options(
    fleet: &config::Fleet,
    files: &Files,
    host: &str,
    events: mpsc::Sender<Event>,
) -> Result<(ConnectOptions, Vec<ServerAddr>), StartError> {
    let mut options = ConnectOptions::new()
        .name(format!("hostprobe {host}"))
        .custom_inbox_prefix(format!("_INBOX_{host}"))
        .connection_timeout(CONNECTION)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .subscription_capacity(WAITING)
        .client_capacity(WAITING)
        // The operator names the servers, and no server adds to them.
        .ignore_discovered_servers()
        .require_tls(fleet.servers.iter().all(|server| server.is_tls))
        .reconnect_delay_callback(|tries| {
            let doubled = 1_u32.checked_shl(u32::try_from(tries).unwrap_or(u32::MAX).min(10)).unwrap_or(1);
            (Duration::from_millis(50) * doubled).min(RETRY_MOST)
        })
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                // The next look at the connection tells the same.
                let _ = events.try_send(event);
            }
        });
    if let Some(path) = &fleet.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(credentials), Some(path)) = (&files.credentials, &fleet.credentials_file) {
        let failed = |why: &str| StartError::File { path: path.clone(), why: why.to_owned() };
        options = if credentials.contains("BEGIN NATS USER JWT") {
            options.credentials(credentials).map_err(|_| failed("is no file of NATS credentials"))?
        } else {
            let seed = seed(credentials)
                .ok_or_else(|| failed("holds neither a user's JWT nor the seed of an nkey"))?;
            options.nkey(seed.to_owned())
        };
    }
    let servers = fleet.servers.iter().map(|server| {
        server.url.parse::<ServerAddr>().map_err(|error| StartError::Address(error.to_string()))
    });
    Ok((options, servers.collect::<Result<_, _>>()?))
}

/// A connection that is there, or the reason that it is not.
pub(super) async fn connect_once(fleet: &config::Fleet, host: &str) -> Result<Client, String> {
    let files = read_files(fleet).map_err(|error| error.to_string())?;
    let (events, _) = mpsc::channel(1);
    let (options, servers) = options(fleet, &files, host, events).map_err(|error| error.to_string())?;
    let connected = tokio::time::timeout(2 * CONNECTION, options.max_reconnects(1).connect(servers)).await;
    match connected {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(foreign(&reasons(&error))),
        Err(_) => Err(format!("no answer within {:?}", 2 * CONNECTION)),
    }
}

/// An error with what caused it: the first alone says little, such as "IO error".
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next.filter(|_| text.len() < 1000) {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// A text of the server, safe to show.
pub(super) fn foreign(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(200)];
    escaped(&redact(text)).into_owned()
}
