//! The output of a command.
//!
//! Without stamps and rotation the command writes to the file itself. Otherwise it writes to a pipe, and a thread of the
//! daemon reads that and writes the file. A slow disk holds up this thread, and in the end the command, as it would if
//! the command wrote the file itself. Nothing waits in the daemon but one piece of output.
//!
//! The command holds both ends of its pipe. So it gets no SIGPIPE if the daemon ends before it, and the next daemon can
//! read on from `/proc/PID/fd/1`.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, read},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{sync::oneshot, time::timeout};

use super::lines::{Lines, LostLines};
use crate::{
    bounded_thread::{self, NoAnswer},
    config::Exec,
    untrusted_file::{self, Access, FileError, Refusal},
};

/// The largest piece of output that is read at once: what a pipe holds by default (`pipe(7)`).
const PIECE: usize = 64 << 10;

/// Between two reports of lost lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last lines of a command that was ended may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("{}: cannot open the output file: {}", .0.path.display(), .0.reason)]
    File(FileError),
    #[error("{path}: cannot follow the output: {source}")]
    Pipe { path: String, source: io::Error },
    #[error("{path}: cannot follow the output: {source}")]
    Thread { path: String, source: NoAnswer },
}

impl OutputError {
    /// The error of the call that failed.
    pub fn failed_call(&self) -> Option<&io::Error> {
        match self {
            Self::File(FileError { reason: Refusal::Other(error), .. })
            | Self::Pipe { source: error, .. }
            | Self::Thread { source: NoAnswer::Thread(error), .. } => Some(error),
            Self::File(_) | Self::Thread { .. } => None,
        }
    }
}

/// What a command writes to. With a pipe also the end of the thread that reads it.
pub(super) type Opened = (OwnedFd, Option<oneshot::Receiver<()>>);

/// Where a command's output goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// The file while a thread writes it. All threads of the service share it, so that one line follows the other.
    lines: Arc<Mutex<Option<Lines>>>,
}

impl Output {
    /// Opens it. `lost` gets the lines that the file does not take.
    pub(super) fn open(
        &self,
        exec: &Exec,
        lost: impl Fn(LostLines) + Send + 'static,
    ) -> Result<Opened, OutputError> {
        let path = exec.output.display().to_string();
        if exec.output_max.is_none() && !exec.output_stamp {
            let open = || untrusted_file::append(&exec.output, Access::Append, 0o640);
            return Ok((in_folder(&exec.output, open)?.0.into(), None));
        }
        let opened = in_folder(&exec.output, || Lines::open(exec))?;
        opened.replace(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let (ours, theirs) = pipe().map_err(|source| OutputError::Pipe { path: path.clone(), source })?;
        let (ended, end) = oneshot::channel();
        let lines = Arc::clone(&self.lines);
        let follow = move || {
            follow(&ours, &lines, lost);
            let _ = ended.send(());
        };
        bounded_thread::start("output", follow).map_err(|source| OutputError::Thread { path, source })?;
        Ok((theirs, Some(end)))
    }
}

/// Waits until a thread has written the last lines.
pub(super) async fn await_last_lines(end: Option<oneshot::Receiver<()>>) {
    if let Some(end) = end {
        let _ = timeout(LAST_LINES, end).await;
    }
}

/// Opens a file, and makes its folder if there is none.
fn in_folder<T>(path: &Path, open: impl Fn() -> Result<T, FileError>) -> Result<T, OutputError> {
    match (open(), path.parent()) {
        (Err(FileError { reason: Refusal::Missing, .. }), Some(folder)) => {
            let failed = |error: io::Error| FileError { path: folder.to_owned(), reason: error.into() };
            fs::create_dir_all(folder).map_err(failed).and_then(|()| open())
        }
        (opened, _) => opened,
    }
    .map_err(OutputError::File)
}

/// A pipe: an end to read, and both ends as one descriptor.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let both = openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok((ours, both))
}

/// Writes what comes through a pipe until all its writers have ended.
fn follow(pipe: &OwnedFd, lines: &Mutex<Option<Lines>>, lost: impl Fn(LostLines)) {
    let lines = || lines.lock().unwrap_or_else(PoisonError::into_inner);
    let mut piece = vec![0; PIECE];
    let mut reported: Option<Instant> = None;
    loop {
        let has_lost = lines().as_ref().is_some_and(Lines::has_lost);
        // A command may write no more for hours, so what is lost does not wait for its next piece.
        let wait = reported.filter(|_| has_lost).map(|at| REPORT_INTERVAL.saturating_sub(at.elapsed()));
        let is_idle = wait.is_some_and(|wait| !is_readable_within(pipe, wait));
        let received = if is_idle { Err(Errno::AGAIN) } else { read(pipe, &mut piece) };
        let ended = match received {
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => continue,
            Err(_) | Ok(0) => true,
            Ok(length) => {
                if let Some(lines) = &mut *lines() {
                    lines.write(&piece[..length], jiff::Timestamp::now());
                }
                false
            }
        };
        if ended || reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            let of = lines().as_mut().and_then(Lines::take_lost);
            if let Some(of) = of {
                lost(of);
                reported = Some(Instant::now());
            }
        }
        if ended {
            return;
        }
    }
}

fn is_readable_within(pipe: &OwnedFd, wait: Duration) -> bool {
    let wait = Timespec::try_from(wait).ok();
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], wait.as_ref()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, sync::mpsc};

    use super::*;

    fn exec(path: &Path) -> Exec {
        Exec { output: path.to_owned(), output_max: Some(64 << 10), output_keep: 1000, ..Exec::default() }
    }

    /// The files of a rotation one after the other, the oldest first.
    fn all(folder: &Path) -> Vec<Vec<u8>> {
        let mut files: Vec<(u32, Vec<u8>)> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let number = path.extension().and_then(|number| number.to_str()?.parse().ok()).unwrap_or(0);
                (number, fs::read(&path).unwrap())
            })
            .collect();
        files.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        files.into_iter().map(|(_, content)| content).collect()
    }

    #[tokio::test]
    async fn a_fast_writer_loses_no_byte_and_no_file_ends_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let exec = exec(&folder.path().join("out/web.log"));
        let (pipe, end) = Output::default().open(&exec, |lost| panic!("{lost:?}")).unwrap();
        let mut pipe = File::from(pipe);
        let mut written = Vec::new();
        for number in 0..60_000 {
            written.extend(format!("{number} {}\n", "x".repeat(number % 90)).bytes());
        }
        for piece in written.chunks(7777) {
            pipe.write_all(piece).unwrap();
        }
        drop(pipe);
        end.unwrap().await.unwrap();
        let files = all(&folder.path().join("out"));
        assert!(files.len() > 40, "{} files", files.len());
        // A line that was begun ends in its file.
        for file in &files {
            assert!(file.len() <= (64 << 10) + 100 && file.ends_with(b"\n"), "{}", file.len());
        }
        assert!(files.concat() == written);
    }

    #[tokio::test]
    async fn a_command_outlives_the_thread_that_reads_its_output() {
        let (ours, theirs) = pipe().unwrap();
        drop(ours);
        let mut theirs = File::from(theirs);
        theirs.write_all(b"waits for the next reader\n").unwrap();
        let path = format!("/proc/self/fd/{}", theirs.as_raw_fd());
        let mut next = [0; 64];
        let reader = openat(CWD, path, OFlags::RDONLY, Mode::empty()).unwrap();
        let length = read(&reader, &mut next).unwrap();
        assert_eq!(&next[..length], b"waits for the next reader\n");
    }

    /// The output of a command to a full disk, its end, and the reports of lost lines.
    fn to_full_disk() -> (File, oneshot::Receiver<()>, mpsc::Receiver<LostLines>) {
        let exec = Exec { output: "/dev/full".into(), output_stamp: true, ..Exec::default() };
        let (lost, report) = mpsc::channel();
        let (pipe, end) = Output::default().open(&exec, move |lines| lost.send(lines).unwrap()).unwrap();
        (pipe.into(), end.unwrap(), report)
    }

    #[tokio::test]
    async fn what_a_full_disk_does_not_take_is_counted() {
        let (mut pipe, end, report) = to_full_disk();
        pipe.write_all(b"1\n2\n").unwrap();
        pipe.write_all(b"3").unwrap();
        drop(pipe);
        end.await.unwrap();
        let reports: Vec<LostLines> = report.iter().collect();
        assert_eq!(reports.iter().map(|lost| lost.count).sum::<u64>(), 3);
        assert_eq!(reports[0].error.kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn lines_that_are_lost_soon_after_a_report_are_reported_without_more_output() {
        let (mut pipe, _end, report) = to_full_disk();
        pipe.write_all(b"1\n").unwrap();
        assert_eq!(report.recv().unwrap().count, 1);
        pipe.write_all(b"2\n3\n").unwrap();
        assert_eq!(report.recv().unwrap().count, 2);
    }

    #[test]
    fn a_file_that_needs_no_thread_is_given_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let plain = Exec { output: folder.path().join("new/web.log"), ..Exec::default() };
        let (file, end) = Output::default().open(&plain, |_| ()).unwrap();
        assert!(end.is_none());
        File::from(file).write_all(b"1\n").unwrap();
        assert_eq!(fs::read(&plain.output).unwrap(), b"1\n");
        let refused = Exec { output: "/dev/null/x".into(), ..Exec::default() };
        let error = Output::default().open(&refused, |_| ()).unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/x: cannot open the output file"), "{error}");
    }
}
