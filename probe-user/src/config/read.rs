//! Reading the configuration and password files, and saying what to do when that fails.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use crate::{
    bounded_thread,
    untrusted_file::{self, Refusal},
};

/// Larger files are refused unread: the path probably names another file.
const LARGEST_CONFIG_BYTES: u64 = 1 << 20;
const LARGEST_PASSWORD_BYTES: u64 = 4096;

/// How long a password file may take to open: its file system may not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: String,
    /// Whether its group or everybody may read it.
    pub(super) readable_by_others: bool,
}

/// Reads a configuration file; the error says what is wrong and what to do.
pub(super) fn config(path: &Path) -> Result<Content, String> {
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
    let at = path.to_owned();
    let read = move || untrusted_file::read_with_mode(&at, LARGEST_PASSWORD_BYTES);
    let read = bounded_thread::blocking_answer("password", PATIENCE, read);
    let (bytes, mode) = match read {
        Ok(read) => read.map_err(|refused| password_error(path, &refused.reason))?,
        Err(error) => return Err(format!("the password file {} cannot be read: {error}", path.display())),
    };
    let text = String::from_utf8(bytes).map_err(|_| {
        format!("the password file {} is not UTF-8 text; expected the password alone", path.display())
    })?;
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(format!("the password file {} is empty; expected the password alone", path.display()));
    }
    Ok(Content { text, readable_by_others: mode & 0o044 != 0 })
}

fn password_error(path: &Path, refusal: &Refusal) -> String {
    let alone = "expected a file that holds the password alone";
    let why = match refusal {
        Refusal::Missing => format!("does not exist; {alone}"),
        Refusal::Forbidden => "may not be read by this user; expected a readable file".to_owned(),
        Refusal::Kind(kind) => format!("is {kind}; {alone}"),
        Refusal::TooLarge(largest) => format!("is larger than {largest} bytes; expected the password alone"),
        Refusal::DanglingLink | Refusal::NoReader | Refusal::ForeignLink(_) => {
            format!("is {refusal}; {alone}")
        }
        Refusal::Other(error) => format!("cannot be read: {error}; expected a readable file"),
    };
    format!("the password file {} {why}", path.display())
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
    let readable_by_others = file.metadata()?.mode() & 0o044 != 0;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(Failure::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Failure::NotUtf8(good.iter().filter(|&&byte| byte == b'\n').count() + 1)
    })?;
    Ok(Content { text, readable_by_others })
}
