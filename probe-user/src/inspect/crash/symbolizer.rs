//! Asks a child process for the names of places ([`super::names`]).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, BorrowedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_setfd},
};

use super::names::{Place, Reply, Request, RequestFile, SUBCOMMAND};

/// The longest answer: three lines for some thirty names of half a kilobyte, in each of as many files.
const REPLY_MAX: usize = 2 << 20;

/// A program or library whose names are asked for.
#[derive(Debug)]
pub struct Subject {
    pub file: File,
    /// Its separate debug information.
    pub debug: Option<File>,
}

/// The names of places, as far as the child found them in time. It blocks until then.
pub fn names(subjects: &[Subject], places: Vec<Place>, until: Instant) -> Reply {
    match ask(subjects, places, until) {
        Ok(reply) => reply.unwrap_or_default(),
        Err(error) => {
            tracing::debug!("crash site: cannot start the process that reads symbols: {error}");
            Reply::default()
        }
    }
}

fn ask(subjects: &[Subject], places: Vec<Place>, until: Instant) -> std::io::Result<Option<Reply>> {
    let descriptor = |file: &File| file.as_raw_fd();
    let files: Vec<_> = subjects
        .iter()
        .map(|it| RequestFile { file: descriptor(&it.file), debug: it.debug.as_ref().map(descriptor) })
        .collect();
    let inherited: Vec<RawFd> = files.iter().flat_map(|it| [Some(it.file), it.debug]).flatten().collect();
    let request = serde_json::to_vec(&Request { files, places })?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec it makes one system call for each descriptor, which the subjects keep open.
    unsafe {
        command.pre_exec(move || {
            for file in &inherited {
                fcntl_setfd(BorrowedFd::borrow_raw(*file), FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let reply = talk(&mut child, &request, until);
    // It has ended, or must.
    let _ = child.kill();
    let _ = child.wait();
    Ok(reply)
}

/// The last whole line of the answer.
fn talk(child: &mut Child, request: &[u8], until: Instant) -> Option<Reply> {
    // A pipe takes a request of a few kilobytes without a wait.
    child.stdin.take()?.write_all(request).ok()?;
    let mut answer = Vec::new();
    read_until(child.stdout.as_mut()?, until, &mut answer);
    let whole = &answer[..answer.iter().rposition(|it| *it == b'\n')?];
    serde_json::from_slice(whole.rsplit(|it| *it == b'\n').next()?).ok()
}

fn read_until(from: &mut ChildStdout, until: Instant, answer: &mut Vec<u8>) {
    let mut buffer = [0; 16 << 10];
    while answer.len() < REPLY_MAX {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return };
        let readable = poll(&mut [PollFd::new(&*from, PollFlags::IN)], Some(&left));
        if !matches!(readable, Ok(1)) {
            return;
        }
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
}
