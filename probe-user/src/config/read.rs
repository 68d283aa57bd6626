//! Reading the configuration and the files that it names, and saying what to do when that fails.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{error::ConfigErrors, source::Sources};
use crate::{
    account::{self, AccountError, Kind},
    bounded_thread,
    untrusted_file::{self, Refusal},
};

/// Larger files are refused unread: the path probably names another file.
const LARGEST_CONFIG_BYTES: u64 = 1 << 20;
const LARGEST_PASSWORD_BYTES: u64 = 4096;

const LARGEST_ENVIRONMENT_BYTES: u64 = 256 << 10;

/// How long a file may take to read, and an account to look up: a file system or a server may not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: String,
    /// Whether its group or everybody may read it.
    pub(super) readable_by_others: bool,
    pub(super) readable_by_all: bool,
    pub(super) writable_by_all: bool,
}

impl Content {
    fn of(text: String, mode: u32) -> Self {
        Self {
            text,
            readable_by_others: mode & 0o044 != 0,
            readable_by_all: mode & 0o004 != 0,
            writable_by_all: mode & 0o002 != 0,
        }
    }
}

/// The folder beside the main file whose files belong to the configuration as well.
const PARTS: &str = "conf.d";

/// A folder with more files is refused: it is probably another one.
const MOST_PARTS: usize = 1000;

/// Reads the main file of a configuration, and the files of `conf.d` beside it in the order of their names. Also returns
/// whether others may read one of them.
pub(super) fn all(path: &Path) -> Result<(Sources, bool), ConfigErrors> {
    let (mut sources, mut readable_by_others) = (Sources::default(), false);
    let folder = path.parent().unwrap_or(Path::new("")).join(PARTS);
    let parts = parts(&folder).map_err(|why| ConfigErrors::whole(&folder, why))?;
    for path in std::iter::once(path.to_owned()).chain(parts) {
        let content = config(&path).map_err(|why| ConfigErrors::whole(&path, why))?;
        readable_by_others |= content.readable_by_others;
        sources.add(path.clone(), content.text);
        if sources.bytes() as u64 > LARGEST_CONFIG_BYTES {
            let why = format!(
                "with it, the configuration is larger than {LARGEST_CONFIG_BYTES} bytes; expected less"
            );
            return Err(ConfigErrors::whole(&path, why));
        }
    }
    Ok((sources, readable_by_others))
}

/// The files of a `conf.d`, in the order of their names; none if there is no such folder.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(format!("cannot be read: {error}; expected a folder of TOML files")),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot be read: {error}"))?.path();
        // A file that an editor leaves for a moment begins with a dot.
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            parts.push(path);
        }
    }
    if parts.len() > MOST_PARTS {
        return Err(format!("has more than {MOST_PARTS} files; expected fewer"));
    }
    parts.sort();
    Ok(parts)
}

/// Reads a configuration file; the error says what is wrong and what to do.
fn config(path: &Path) -> Result<Content, String> {
    read(path, LARGEST_CONFIG_BYTES).map_err(config_error)
}

/// The error of a configuration file in words.
pub(super) fn config_error(failure: impl Into<Failure>) -> String {
    match failure.into() {
        Failure::Missing => "no such file; create it, or name another with --config".to_owned(),
        Failure::Forbidden => {
            "may not be read by this user; run as root or change its permissions".to_owned()
        }
        Failure::Directory => "is a directory; expected a TOML file".to_owned(),
        Failure::NotUtf8(line) => {
            format!("line {line} is not UTF-8 text; expected a TOML file saved as UTF-8")
        }
        Failure::TooLarge => format!("larger than {LARGEST_CONFIG_BYTES} bytes; expected a TOML file"),
        Failure::Other(error) => format!("cannot be read: {error}"),
    }
}

/// Reads a password file and trims it; the error names the file and says what is wrong.
pub(super) fn password(path: &Path) -> Result<Content, String> {
    trimmed(path, "password file", "the password alone")
}

/// Reads a token file and trims it; the error names the file and says what is wrong.
pub(super) fn token(path: &Path) -> Result<Content, String> {
    trimmed(path, "token file", "the token alone")
}

fn trimmed(path: &Path, kind: &str, holds: &str) -> Result<Content, String> {
    let content = in_time(path, kind, LARGEST_PASSWORD_BYTES, holds)?;
    let text = content.text.trim().to_owned();
    if text.is_empty() {
        return Err(format!("the {kind} {} is empty; expected {holds}", path.display()));
    }
    Ok(Content { text, ..content })
}

/// Reads a file of variables; the error names the file and says what is wrong.
pub(super) fn environment(path: &Path) -> Result<Content, String> {
    in_time(path, "environment file", LARGEST_ENVIRONMENT_BYTES, "lines of the form NAME=value")
}

/// Reads a file that another user may control. `holds` is what it has to hold.
fn in_time(path: &Path, kind: &str, largest: u64, holds: &str) -> Result<Content, String> {
    let at = path.to_owned();
    let read = move || untrusted_file::read_with_mode(&at, largest);
    let why = match bounded_thread::blocking_answer("read", PATIENCE, read) {
        Ok(Ok((bytes, mode))) => match String::from_utf8(bytes) {
            Ok(text) => return Ok(Content::of(text, mode)),
            Err(_) => format!("is not UTF-8 text; expected {holds}"),
        },
        Ok(Err(refused)) => refusal(&refused.reason, holds),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(format!("the {kind} {} {why}", path.display()))
}

fn refusal(refusal: &Refusal, holds: &str) -> String {
    match refusal {
        Refusal::Missing => format!("does not exist; expected a file that holds {holds}"),
        Refusal::Forbidden => "may not be read by this user; expected a readable file".to_owned(),
        Refusal::Kind(kind) => format!("is {kind}; expected a file that holds {holds}"),
        Refusal::TooLarge(largest) => format!("is larger than {largest} bytes; expected {holds}"),
        Refusal::DanglingLink | Refusal::NoReader | Refusal::ForeignLink(_) => {
            format!("is {refusal}; expected a file that holds {holds}")
        }
        Refusal::Other(error) => format!("cannot be read: {error}; expected a readable file"),
    }
}

/// Whether the host has a user or a group.
pub(super) fn account(kind: Kind, name: &str) -> Result<(), AccountError> {
    let asked = name.to_owned();
    let answer = bounded_thread::blocking_answer("account", PATIENCE, move || account::exists(kind, &asked));
    answer.unwrap_or_else(|error| {
        let source = io::Error::other(error.to_string());
        Err(AccountError::Lookup { kind, name: name.to_owned(), source })
    })
}

/// Why a file gives no text.
pub(super) enum Failure {
    Missing,
    Forbidden,
    Directory,
    /// The line of the first byte that is not UTF-8.
    NotUtf8(usize),
    TooLarge,
    Other(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => Self::Forbidden,
            ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Other(error),
        }
    }
}

/// Reads the operator's own file. It may be a pipe, as of `<(command)` in a shell.
fn read(path: &Path, largest: u64) -> Result<Content, Failure> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(Failure::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Failure::NotUtf8(good.iter().filter(|&&byte| byte == b'\n').count() + 1)
    })?;
    Ok(Content::of(text, mode))
}
