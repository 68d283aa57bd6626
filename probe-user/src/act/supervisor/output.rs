//! The output of a command.
//!
//! Without stamps and rotation the command writes to the file itself. Otherwise it writes to a pipe, and a thread of the
//! daemon reads that and writes the file. A slow disk holds up this thread, and in the end the command, as it would if
//! the command wrote the file itself. Nothing waits in the daemon but one piece of output.
//!
//! The command holds both ends of its pipe. So it gets no SIGPIPE if the daemon ends before it, and the next daemon reads
//! on from `/proc/PID/fd/1`. Until then the pipe takes [`PIPE`] bytes, and then writes to it wait. A daemon that ends in
//! order takes no piece out of the pipe that it does not write. One that is killed loses the piece that it has just read.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, fcntl_setfl, openat},
    io::{Errno, read},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};
use tokio::{sync::oneshot, time::timeout};

use super::lines::{Lines, LostLines};
use crate::{
    bounded_thread::{self, NoAnswer},
    config::Exec,
    host::{FileId, OutputPlace, OutputRun, OutputRuns},
    untrusted_file::{self, Access, FileError, Refusal},
};

/// The largest piece of output that is read at once: what a pipe holds by default (`pipe(7)`).
const PIECE: usize = 64 << 10;

/// How much a pipe holds: the most that a process without rights may ask for (`/proc/sys/fs/pipe-max-size`). The kernel
/// takes the memory for it only once it is written.
const PIPE: usize = 1 << 20;

/// Between two tries to open the file of an adopted command.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Between two tries to stop a thread that writes.
const LEAVE_INTERVAL: Duration = Duration::from_millis(1);

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

/// What a command writes to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) descriptor: OwnedFd,
    /// None if it is the file itself.
    pub(super) followed: Option<Followed>,
}

/// A pipe whose output a thread writes.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) pipe: FileId,
    /// Sends once the thread has ended.
    pub(super) end: oneshot::Receiver<()>,
}

/// Where a command's output goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// All threads of the service share it, so that one line follows the other.
    destination: Arc<Mutex<Destination>>,
    pub(super) runs: OutputRuns,
}

#[derive(Debug, Default)]
struct Destination {
    /// The file while a thread writes it.
    lines: Option<Lines>,
    /// That of the latest run, while a thread reads it.
    pipe: Weak<OwnedFd>,
    /// The next daemon reads what the pipes have.
    is_left: bool,
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
            let (file, _) = in_folder(&exec.output, open)?;
            self.runs.open(OutputPlace::end_of(&file));
            return Ok(Opened { descriptor: file.into(), followed: None });
        }
        let opened = in_folder(&exec.output, || Lines::open(exec))?;
        opened.replace(&mut self.lock().lines);
        let failed = |source| OutputError::Pipe { path: path.clone(), source };
        let (ours, theirs) = pipe().map_err(failed)?;
        let pipe = FileId::of(&ours).map_err(failed)?;
        let (ended, end) = oneshot::channel();
        let (output, ours) = (self.clone(), Arc::new(ours));
        let earlier = std::mem::replace(&mut self.lock().pipe, Arc::downgrade(&ours));
        let begins = Some(Begin { run: self.runs.open(None), earlier });
        let follow = move || {
            output.follow(&ours, begins, lost);
            let _ = ended.send(());
        };
        bounded_thread::start("output", follow).map_err(|source| OutputError::Thread { path, source })?;
        Ok(Opened { descriptor: theirs, followed: Some(Followed { pipe, end }) })
    }

    /// Reads on from the pipe of a command that an earlier daemon started, and writes on in its file. Until that can be
    /// opened, the output stays in the pipe.
    pub(super) fn follow_adopted(
        &self,
        pipe: OwnedFd,
        exec: Exec,
        lost: impl Fn(LostLines) + Send + 'static,
    ) -> Result<oneshot::Receiver<()>, OutputError> {
        let path = exec.output.display().to_string();
        let (ended, end) = oneshot::channel();
        let (output, pipe) = (self.clone(), Arc::new(pipe));
        self.lock().pipe = Arc::downgrade(&pipe);
        let follow = move || {
            if output.open_again(&exec) {
                output.follow(&pipe, None, lost);
            }
            let _ = ended.send(());
        };
        bounded_thread::start("output", follow).map_err(|source| OutputError::Thread { path, source })?;
        Ok(end)
    }

    /// Opens the file as an earlier daemon left it. False if this daemon ends before that is possible.
    fn open_again(&self, exec: &Exec) -> bool {
        let mut has_warned = false;
        loop {
            match in_folder(&exec.output, || Lines::open_again(exec)) {
                Ok(lines) => {
                    let mut destination = self.lock();
                    // A start since has opened the file.
                    if destination.lines.is_none() {
                        destination.lines = Some(lines);
                    }
                    return true;
                }
                Err(error) if !std::mem::replace(&mut has_warned, true) => {
                    tracing::error!(
                        "{error}; an adopted command writes there, and waits once its pipe is full"
                    );
                }
                Err(_) => {}
            }
            if self.lock().is_left {
                return false;
            }
            std::thread::sleep(OPEN_INTERVAL);
        }
    }

    /// Has the threads read no more, because the daemon ends before the commands. False if one writes for too long: the
    /// piece that it writes is lost if the daemon ends before it has.
    pub(super) async fn leave(&self) -> bool {
        let deadline = Instant::now() + LAST_LINES;
        while !self.try_to_leave() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LEAVE_INTERVAL).await;
        }
        true
    }

    /// False while a thread writes.
    fn try_to_leave(&self) -> bool {
        let mut destination = match self.destination.try_lock() {
            Ok(destination) => destination,
            Err(TryLockError::Poisoned(destination)) => destination.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        destination.is_left = true;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Destination> {
        self.destination.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes through a pipe until all its writers have ended. The first piece of a run that `begins` comes after
    /// what the earlier run has written.
    fn follow(&self, pipe: &OwnedFd, mut begins: Option<Begin>, lost: impl Fn(LostLines)) {
        let mut piece = vec![0; PIECE];
        let mut reported: Option<Instant> = None;
        loop {
            let has_lost = self.lock().lines.as_ref().is_some_and(Lines::has_lost);
            // A command may write no more for hours, so what is lost does not wait for its next piece.
            let wait = reported.filter(|_| has_lost).map(|at| REPORT_INTERVAL.saturating_sub(at.elapsed()));
            let is_readable = wait_until_readable(pipe, wait);
            let mut destination = self.lock();
            if destination.is_left {
                return;
            }
            let received = if is_readable { read(pipe, &mut piece) } else { Err(Errno::AGAIN) };
            let ended = match received {
                Err(Errno::AGAIN | Errno::INTR) => false,
                Err(_) | Ok(0) => true,
                Ok(length) => {
                    if let Some(lines) = &mut destination.lines {
                        if let Some(Begin { run, earlier }) = begins.take() {
                            if let Some(earlier) = earlier.upgrade() {
                                write_rest(&earlier, lines);
                            }
                            run.begins_at(lines.place());
                        }
                        lines.write(&piece[..length], jiff::Timestamp::now());
                    }
                    false
                }
            };
            if ended || reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                let of = destination.lines.as_mut().and_then(Lines::take_lost);
                drop(destination);
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
}

/// What comes before the first piece of a run.
struct Begin {
    run: OutputRun,
    /// The pipe of the earlier run, while a thread reads it.
    earlier: Weak<OwnedFd>,
}

/// Writes what a pipe has by now: at most as much as one holds.
fn write_rest(pipe: &OwnedFd, lines: &mut Lines) {
    let (mut piece, mut written) = (vec![0; PIECE], 0);
    while written < PIPE {
        match read(pipe, &mut piece) {
            Err(Errno::INTR) => {}
            Err(_) | Ok(0) => return,
            Ok(length) => {
                lines.write(&piece[..length], jiff::Timestamp::now());
                written += length;
            }
        }
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

/// A pipe: an end to read, which never waits, and both ends as one descriptor.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let both = openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    // A user who has many pipes gets smaller ones.
    let _ = fcntl_setpipe_size(&ours, PIPE);
    Ok((ours, both))
}

/// Whether there is something to read, or no writer any more. Waits without end if no time is given.
fn wait_until_readable(pipe: &OwnedFd, wait: Option<Duration>) -> bool {
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
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
        let opened = Output::default().open(&exec, |lost| panic!("{lost:?}")).unwrap();
        let (mut pipe, end) = (File::from(opened.descriptor), opened.followed.unwrap().end);
        let mut written = Vec::new();
        for number in 0..60_000 {
            written.extend(format!("{number} {}\n", "x".repeat(number % 90)).bytes());
        }
        for piece in written.chunks(7777) {
            pipe.write_all(piece).unwrap();
        }
        drop(pipe);
        end.await.unwrap();
        let files = all(&folder.path().join("out"));
        assert!(files.len() > 40, "{} files", files.len());
        // A line that was begun ends in its file.
        for file in &files {
            assert!(file.len() <= (64 << 10) + 100 && file.ends_with(b"\n"), "{}", file.len());
        }
        assert!(files.concat() == written);
    }

    /// The reading end of a pipe of this process.
    fn reading_end(pipe: &File) -> OwnedFd {
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_daemon_that_leaves_reads_nothing_that_it_does_not_write_and_the_next_goes_on_in_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let exec = Exec { output: path.clone(), output_stamp: true, ..Exec::default() };
        let first = Output::default();
        let opened = first.open(&exec, |lost| panic!("{lost:?}")).unwrap();
        let mut pipe = File::from(opened.descriptor);
        pipe.write_all(b"one\ntw").unwrap();
        while !fs::read(&path).unwrap().ends_with(b"tw") {
            std::thread::yield_now();
        }
        assert!(first.leave().await);
        // More than a pipe holds by default.
        let lines: String = (0..9000).map(|number| format!("{number:06} left behind\n")).collect();
        assert!(lines.len() > 2 * PIECE);
        pipe.write_all(b"o\n").unwrap();
        pipe.write_all(lines.as_bytes()).unwrap();
        opened.followed.unwrap().end.await.unwrap();
        assert!(fs::read(&path).unwrap().ends_with(b"tw"), "nothing was read");

        let (again, second) = (reading_end(&pipe), Output::default());
        let end = second.follow_adopted(again, exec, |lost| panic!("{lost:?}")).unwrap();
        pipe.write_all(b"last\n").unwrap();
        drop(pipe);
        end.await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let texts: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!((texts.len(), texts[1], texts[9002]), (9003, "two", "last"), "no line is torn");
        assert_eq!(texts[2..9002].join("\n") + "\n", lines);
    }

    #[tokio::test]
    async fn the_output_of_an_adopted_command_waits_in_its_pipe_until_its_file_can_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::write(&logs, "no folder").unwrap();
        let exec = Exec { output: logs.join("web.log"), output_stamp: true, ..Exec::default() };
        let (ours, theirs) = pipe().unwrap();
        let mut theirs = File::from(theirs);
        let end = Output::default().follow_adopted(ours, exec.clone(), |lost| panic!("{lost:?}")).unwrap();
        theirs.write_all(b"waits\n").unwrap();
        drop(theirs);
        fs::remove_file(&logs).unwrap();
        end.await.unwrap();
        assert!(fs::read_to_string(exec.output).unwrap().ends_with(" waits\n"));
    }

    /// The output of a command to a full disk, its end, and the reports of lost lines.
    fn to_full_disk() -> (File, oneshot::Receiver<()>, mpsc::Receiver<LostLines>) {
        let exec = Exec { output: "/dev/full".into(), output_stamp: true, ..Exec::default() };
        let (lost, report) = mpsc::channel();
        let opened = Output::default().open(&exec, move |lines| lost.send(lines).unwrap()).unwrap();
        (opened.descriptor.into(), opened.followed.unwrap().end, report)
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
    fn the_last_words_of_a_run_come_before_the_first_of_the_next_and_the_place_between_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let exec = Exec { output: path.clone(), output_stamp: true, ..Exec::default() };
        let output = Output::default();
        let (early, next) = (pipe().unwrap(), pipe().unwrap());
        // No thread reads the pipe of the earlier run yet, as if the processor had other work.
        let earlier = Arc::new(early.0);
        File::from(early.1).write_all(b"last words\n").unwrap();
        output.runs.open(None).begins_at(OutputPlace::end_of(File::create(&path).unwrap()));
        output.runs.started();
        let (dead, run) = (output.runs.latest(), output.runs.open(None));
        output.lock().lines = Some(Lines::open(&exec).unwrap());
        File::from(next.1).write_all(b"first words\n").unwrap();
        let begin = Begin { run, earlier: Arc::downgrade(&earlier) };
        output.follow(&next.0, Some(begin), |lost| panic!("{lost:?}"));
        let text = fs::read_to_string(&path).unwrap();
        let words: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(words, ["last words", "first words"]);
        let (from, to) = dead.part_of(FileId::of(File::open(&path).unwrap()).unwrap()).unwrap();
        assert_eq!((from, to as usize), (0, text.find('\n').unwrap() + 1));
    }

    #[test]
    fn a_file_that_needs_no_thread_is_given_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let plain = Exec { output: folder.path().join("new/web.log"), ..Exec::default() };
        let opened = Output::default().open(&plain, |_| ()).unwrap();
        assert!(opened.followed.is_none());
        File::from(opened.descriptor).write_all(b"1\n").unwrap();
        assert_eq!(fs::read(&plain.output).unwrap(), b"1\n");
        let refused = Exec { output: "/dev/null/x".into(), ..Exec::default() };
        let error = Output::default().open(&refused, |_| ()).unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/x: cannot open the output file"), "{error}");
    }
}
