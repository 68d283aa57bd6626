//! The control socket: a request is one line of JSON, and so is its answer.
//!
//! Only root and the daemon's own user are answered. It shows what the pipeline has published already: a question
//! costs the making of its answer, which is bounded, and no read of the host. A request to reload is passed on.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    history::{Explanation, Listed, NotOne},
    shown::Shown,
    status::Status,
};
use crate::fact::Reload;

/// The most clients that are served at once; more wait.
const CLIENTS: usize = 8;

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;

/// The longest wait for a client's question, and then for the client to read its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The wait before the next accept after a failed one.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    Incidents,
    Explain {
        /// Its id, or the number at the end of it.
        incident: String,
    },
    Reload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    Incidents(Vec<Listed>),
    Explanation(Box<Explanation>),
    Reload(Reload),
    Error(Refusal),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

/// Why there is no answer, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    BadRequest,
    /// Only root and the daemon's own user may ask.
    NotPermitted,
    /// No such incident, or several.
    NotFound,
    Stopping,
}

/// Where requests for a reload go, each with the place for its answer.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reload>>;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon has it.
    #[error(
        "{}: another hostprobe answers there; stop it, or set control.socket to another path or to \"\"",
        path.display()
    )]
    InUse { path: PathBuf },
    /// Something that is no socket is there.
    #[error("{}: not a socket; remove it, or set control.socket to another path", path.display())]
    NotASocket { path: PathBuf },
    #[error("{}: cannot make the socket: {source}; set control.socket to a path that can be written, or to \"\"", path.display())]
    Other { path: PathBuf, source: io::Error },
}

/// Removes the daemon's socket file when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, to recognise a later daemon's file.
    file: Option<(u64, u64)>,
}

/// Makes the socket, for its owner only, and its folder where that alone is missing. The socket that a dead daemon
/// left is replaced, that of a living one is not. Needs a Tokio runtime.
pub async fn open(path: &Path) -> Result<ControlSocket, ControlError> {
    let other = |source| ControlError::Other { path: path.to_owned(), source };
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        fs::DirBuilder::new().mode(0o755).create(folder).map_err(other)?;
    }
    let listener = match StdListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !fs::symlink_metadata(path).map_err(other)?.file_type().is_socket() {
                return Err(ControlError::NotASocket { path: path.to_owned() });
            }
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).and_then(|()| StdListener::bind(path)).map_err(other)?
                }
                Ok(_) => return Err(ControlError::InUse { path: path.to_owned() }),
                // So many clients wait that the queue is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ControlError::InUse { path: path.to_owned() });
                }
                Err(error) => return Err(other(error)),
            }
        }
        bound => bound.map_err(other)?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(other)?;
    listener.set_nonblocking(true).map_err(other)?;
    let listener = UnixListener::from_std(listener).map_err(other)?;
    Ok(ControlSocket { listener, path: path.to_owned(), file: identity(path) })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // A file that stays is replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Answers for ever.
pub async fn serve(socket: ControlSocket, shown: Shown, reloads: Reloads) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let (shown, reloads) = (shown.clone(), reloads.clone());
                tokio::spawn(async move {
                    if let Err(error) = attend(stream, &shown, &reloads).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket: accepting a connection failed; trying again in a second");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one client until it goes away or takes too long.
async fn attend(stream: UnixStream, shown: &Shown, reloads: &Reloads) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let allowed = uid == 0 || uid == rustix::process::geteuid().as_raw();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let got = timeout(PATIENCE, (&mut read).take(MAX_REQUEST).read_until(b'\n', &mut line)).await??;
        if got == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let answer = match serde_json::from_slice::<Request>(&line) {
            _ if !allowed => {
                refusal(RefusalKind::NotPermitted, "only root and the daemon's own user may ask")
            }
            _ if !whole => refusal(RefusalKind::BadRequest, "a request is one line of at most 4096 bytes"),
            Err(error) => refusal(RefusalKind::BadRequest, &error.to_string()),
            Ok(request) => answer(request, shown, reloads).await,
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(PATIENCE, write.write_all(&text)).await??;
        if !whole || !allowed {
            return Ok(());
        }
    }
}

async fn answer(request: Request, shown: &Shown, reloads: &Reloads) -> Answer {
    match request {
        Request::Status => Answer::Status(Box::new(shown.status())),
        Request::Incidents => Answer::Incidents(shown.history().incidents()),
        Request::Explain { incident } => match shown.history().explain(&incident) {
            Ok(explanation) => Answer::Explanation(Box::new(explanation)),
            Err(none) => refusal(RefusalKind::NotFound, &none.in_words(&incident)),
        },
        Request::Reload => {
            let (answer, outcome) = oneshot::channel();
            // The daemon answers at its next turn; both channels close when it ends.
            let _ = reloads.send(answer).await;
            let outcome = outcome.await.map(Answer::Reload);
            outcome.unwrap_or_else(|_| refusal(RefusalKind::Stopping, "the daemon ends"))
        }
    }
}

fn refusal(kind: RefusalKind, message: &str) -> Answer {
    Answer::Error(Refusal { kind, message: message.to_owned() })
}

impl NotOne {
    /// It in a sentence.
    pub fn in_words(&self, which: &str) -> String {
        match self {
            Self::None => format!("there is no incident {which:?}; `hostprobe incidents` lists them"),
            Self::Several(ids) => format!("{which:?} can mean any of {}", ids.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
