//! Opens files that another user may control: pidfiles, files with secrets, output files.
//!
//! A path may lead to anything. The open of a FIFO waits for its other end, a device does something when it is opened,
//! a link to `/dev/zero` has no end, and a sparse file of terabytes costs its reader all memory. So a path is first
//! opened with `O_PATH`, which opens nothing: the kernel only looks it up. What that found is looked at, and only then
//! opened, by its descriptor: it is the same file, whatever its path leads to by then.
//!
//! The lookup itself can still wait, for a file system that does not answer. Call these functions where that holds up
//! nothing else.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, fcntl_setfl, openat},
    io::Errno,
};

/// A file was refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub reason: Refusal,
}

/// Why a file is refused; in words that follow its path.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no such file")]
    Missing,
    #[error("a symbolic link to a file that does not exist")]
    DanglingLink,
    #[error("a symbolic link of the user {0}; only links of root and of the daemon's user are followed")]
    ForeignLink(u32),
    #[error("this user may not open it")]
    Forbidden,
    /// It is no regular file, but this.
    #[error("it is {0}; expected a regular file")]
    Kind(Kind),
    #[error("a FIFO that no process reads")]
    NoReader,
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    #[error("{0}")]
    Other(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Other(error),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Directory,
    Fifo,
    Socket,
    BlockDevice,
    /// A character device that does nothing by being opened and takes whatever is written: `/dev/null`, a terminal.
    PlainDevice,
    CharacterDevice,
}

/// The majors of `Documentation/admin-guide/devices.txt` for memory devices (`/dev/null`), virtual consoles and serial
/// lines, `/dev/tty` and `/dev/console`, and pseudo-terminals.
const PLAIN_MAJORS: [std::ops::RangeInclusive<u32>; 3] = [1..=1, 4..=5, 136..=143];

impl Kind {
    fn of(meta: &std::fs::Metadata) -> Self {
        let kind = meta.file_type();
        if kind.is_file() {
            Self::Regular
        } else if kind.is_dir() {
            Self::Directory
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else if kind.is_block_device() {
            Self::BlockDevice
        } else {
            let major = rustix::fs::major(meta.rdev());
            let plain = PLAIN_MAJORS.iter().any(|majors| majors.contains(&major));
            if plain { Self::PlainDevice } else { Self::CharacterDevice }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::BlockDevice => "a block device",
            Self::PlainDevice | Self::CharacterDevice => "a device",
        })
    }
}

/// Reads a regular file whole. It is refused if it is larger than `largest` bytes; no more than that is read.
pub fn read(path: &Path, largest: u64) -> Result<Vec<u8>, FileError> {
    read_with_mode(path, largest).map(|(bytes, _)| bytes)
}

/// As [`read`], with the file's permission bits.
pub fn read_with_mode(path: &Path, largest: u64) -> Result<(Vec<u8>, u32), FileError> {
    read_regular(path, largest).map_err(|reason| FileError { path: path.to_owned(), reason })
}

/// Opens a regular file for reading.
pub fn open(path: &Path) -> Result<File, FileError> {
    let open = || {
        let found = look_up(path, OFlags::empty())?;
        let kind = Kind::of(&found.metadata()?);
        if kind == Kind::Regular { open_found(&found, OFlags::RDONLY) } else { Err(Refusal::Kind(kind)) }
    };
    open().map_err(|reason| FileError { path: path.to_owned(), reason })
}

fn read_regular(path: &Path, largest: u64) -> Result<(Vec<u8>, u32), Refusal> {
    let found = look_up(path, OFlags::empty())?;
    let meta = found.metadata()?;
    let kind = Kind::of(&meta);
    if kind != Kind::Regular {
        return Err(Refusal::Kind(kind));
    }
    if meta.len() > largest {
        return Err(Refusal::TooLarge(largest));
    }
    let file = open_found(&found, OFlags::RDONLY)?;
    let mut bytes = Vec::new();
    // The file may grow meanwhile, and some of the kernel's say that they are empty.
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest { Err(Refusal::TooLarge(largest)) } else { Ok((bytes, meta.mode())) }
}

/// How a file that is appended to will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Append,
    /// Reads it as well, where it is a regular file.
    ReadAndAppend,
}

/// Opens a file for appending; creates it with this mode where there is none. It may be a regular file, a terminal,
/// `/dev/null` or its like, or a FIFO that a process reads.
///
/// A link is followed only if root or the daemon's user made it: others could have the daemon write to any file.
pub fn append(path: &Path, access: Access, mode: u32) -> Result<(File, Kind), FileError> {
    append_to(path, access, mode).map_err(|reason| FileError { path: path.to_owned(), reason })
}

fn append_to(path: &Path, access: Access, mode: u32) -> Result<(File, Kind), Refusal> {
    match look_up(path, OFlags::NOFOLLOW) {
        Ok(found) if found.metadata()?.is_symlink() => {
            let owner = found.metadata()?.uid();
            if owner != 0 && owner != rustix::process::geteuid().as_raw() {
                return Err(Refusal::ForeignLink(owner));
            }
            append_found(&look_up(path, OFlags::empty())?, access)
        }
        Ok(found) => append_found(&found, access),
        Err(Refusal::Missing) => {
            let flags = open_flags(Kind::Regular, access) | OFlags::CREATE | OFlags::EXCL | HARMLESS;
            let file = File::from(openat(CWD, path, flags, Mode::from_raw_mode(mode))?);
            Ok((file, Kind::Regular))
        }
        Err(refusal) => Err(refusal),
    }
}

fn append_found(found: &File, access: Access) -> Result<(File, Kind), Refusal> {
    let kind = Kind::of(&found.metadata()?);
    match kind {
        Kind::Regular | Kind::PlainDevice | Kind::Fifo => {}
        Kind::Directory | Kind::Socket | Kind::BlockDevice | Kind::CharacterDevice => {
            return Err(Refusal::Kind(kind));
        }
    }
    let flags = open_flags(kind, access);
    let file = open_found(found, flags).map_err(|refusal| {
        // `fifo(7)`: a writer that does not wait is refused where there is no reader.
        let has_no_reader = kind == Kind::Fifo
            && matches!(&refusal, Refusal::Other(error) if error.raw_os_error() == Some(libc::ENXIO));
        if has_no_reader { Refusal::NoReader } else { refusal }
    })?;
    // A program that writes to it, such as the command of a service, expects that a write waits for room.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok((file, kind))
}

fn open_flags(kind: Kind, access: Access) -> OFlags {
    let both = access == Access::ReadAndAppend && kind == Kind::Regular;
    OFlags::APPEND | if both { OFlags::RDWR } else { OFlags::WRONLY }
}

/// Opens without waiting for a FIFO's other end or for the holder of a lease (`fcntl(2)`), and without taking over a
/// terminal.
const HARMLESS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Looks a path up without opening what it leads to.
fn look_up(path: &Path, follow: OFlags) -> Result<File, Refusal> {
    let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty());
    match found {
        Ok(found) => Ok(File::from(found)),
        Err(Errno::NOENT) if path.is_symlink() => Err(Refusal::DanglingLink),
        Err(error) => Err(error.into()),
    }
}

/// Opens what [`look_up`] found.
fn open_found(found: &File, flags: OFlags) -> Result<File, Refusal> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened: OwnedFd = openat(CWD, path, flags | HARMLESS, Mode::empty())?;
    Ok(File::from(opened))
}

#[cfg(test)]
mod tests;
