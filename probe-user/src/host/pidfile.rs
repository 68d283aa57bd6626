//! Pidfiles as programs write them.
//!
//! PostgreSQL writes seven lines below the pid, OpenRC and some Java starters write a leading space or a trailing name, and
//! files from other systems end their lines with CR LF. So the first number counts.

use std::path::Path;

use crate::untrusted_file::{self, FileError, Refusal};

/// PostgreSQL's file has some hundred bytes.
const READ_MAX: u64 = 4096;

/// `PID_MAX_LIMIT` in the kernel's `include/linux/threads.h`.
const PID_MAX: u32 = 4 << 20;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PidfileError {
    /// A service that does not run has none.
    #[error("there is no such file")]
    Missing,
    #[error("{0}")]
    Unreadable(String),
    #[error("it is empty")]
    Empty,
    #[error("it begins with {0:?}, and should begin with a pid")]
    NoNumber(String),
    #[error("{0} is not the pid of a service")]
    NoService(u64),
}

/// The pid that a pidfile names. Its folder may be another user's.
pub fn read(path: &Path) -> Result<u32, PidfileError> {
    match untrusted_file::read(path, READ_MAX) {
        Ok(bytes) => parse(&bytes),
        Err(FileError { reason: Refusal::Missing, .. }) => Err(PidfileError::Missing),
        Err(error) => Err(PidfileError::Unreadable(error.reason.to_string())),
    }
}

fn parse(bytes: &[u8]) -> Result<u32, PidfileError> {
    // Windows editors put a byte order mark first.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let begin = bytes.iter().position(|byte| !is_space(byte)).ok_or(PidfileError::Empty)?;
    let text = &bytes[begin..];
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = text.get(digits).is_none_or(|byte| is_space(byte) || b",;:#".contains(byte));
    let number = std::str::from_utf8(&text[..digits]).ok().filter(|_| ends);
    let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else {
        let word = text.split(is_space).next().unwrap_or_default();
        return Err(PidfileError::NoNumber(
            String::from_utf8_lossy(&word[..word.len().min(32)]).into_owned(),
        ));
    };
    // 0 is no process, and 1 is the init of the namespace in which the file was written.
    u32::try_from(number)
        .ok()
        .filter(|pid| (2..=PID_MAX).contains(pid))
        .ok_or(PidfileError::NoService(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_counts_as_programs_write_it() {
        let texts: [&[u8]; 11] = [
            b"4242",
            b"4242\n",
            b" 4242\n",
            b"\t4242\r\n",
            b"\n\n4242\n",
            b"4242 nginx\n",
            b"4242\n/var/lib/postgresql/15/main\n1700000000\n5432\n/tmp\n127.0.0.1\n 5432001 12\nready\n",
            b"\xef\xbb\xbf4242\r\n",
            b"4242\0\0\0",
            b"0004242\n",
            b"4242, started by hand",
        ];
        for text in texts {
            assert_eq!(parse(text), Ok(4242), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_no_pid_says_what_it_is() {
        for text in [&b""[..], b" \r\n", b"\0\0"] {
            assert_eq!(parse(text), Err(PidfileError::Empty));
        }
        for text in ["pid=4242", "-1", "4242abc", "0x1f", "nginx", "4.2", "<pid>"] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, PidfileError::NoNumber(text.to_owned()));
        }
        for pid in [0, 1, 4_194_305, 99_999_999_999] {
            assert_eq!(parse(pid.to_string().as_bytes()), Err(PidfileError::NoService(pid)));
        }
        assert!(parse(&[b'9'; 4000]).unwrap_err().to_string().len() < 100);
        assert!(parse(&[0xff; 4000]).is_err());
    }

    #[test]
    fn a_missing_file_differs_from_one_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")), Err(PidfileError::Missing));
        assert!(matches!(read(folder.path()), Err(PidfileError::Unreadable(_))));
    }
}
