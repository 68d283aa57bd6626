//! The socket's file: who makes it, and who may open it.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

use crate::host::accounts;

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
    pub(super) listener: UnixListener,
    /// The group whose members may give commands, besides root and the daemon's own user.
    pub(super) group: Option<u32>,
    path: PathBuf,
    /// Device and inode of the file, to recognise a later daemon's file.
    file: Option<(u64, u64)>,
}

/// Makes the socket, for its owner and the group, and its folder where that alone is missing. The socket that a dead
/// daemon left is replaced, that of a living one is not. Needs a Tokio runtime.
pub async fn open(path: &Path, group: Option<&str>) -> Result<ControlSocket, ControlError> {
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
    let group = group.and_then(|group| admit(path, group));
    listener.set_nonblocking(true).map_err(other)?;
    let listener = UnixListener::from_std(listener).map_err(other)?;
    Ok(ControlSocket { listener, group, path: path.to_owned(), file: identity(path) })
}

/// Lets a group open the socket. If that fails, only root and the daemon's own user can.
fn admit(path: &Path, name: &str) -> Option<u32> {
    let admitted = accounts::group_id(name).and_then(|id| {
        chown(path, None, Some(id))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map(|()| id)
    });
    let failed = |error: &io::Error| {
        tracing::warn!(
            "{}: group {name} cannot be admitted: {error}; a daemon that is not root has to be a member of it",
            path.display()
        );
    };
    admitted.inspect_err(failed).ok()
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
