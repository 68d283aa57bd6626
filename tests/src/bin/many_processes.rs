//! Many small processes on one host, forked from one.
//!
//! `many_processes serve N STAMPS` has N of them, each an HTTP server on a loopback port of its own that answers `200 OK` to whatever it
//! is asked and appends its number and the time to the file STAMPS: two native 64-bit words, the time in nanoseconds of
//! CLOCK_MONOTONIC. `many_processes idle N [FOLDER GROUPS]` has N that sleep, spread over the cgroups `FOLDER/0` to `FOLDER/GROUPS-1`.
//! It says `ready`, and the ports, once all are there, and ends with all of them on SIGTERM.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::TcpListener,
    process::ExitCode,
};

use rustix::time::{ClockId, clock_gettime};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// The number of a signal, as libc has it.
type Word = libc::c_int;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    hold_back(libc::SIGTERM);
    // A killed benchmark leaves no process behind.
    end_with_parent(libc::SIGTERM);
    let mut children = Vec::new();
    let made = match words.as_slice() {
        ["serve", count, stamps] => number(count).map(|count| serve_all(count, stamps, &mut children)),
        ["idle", count] => number(count).map(|count| sleep_all(count, None, &mut children)),
        ["idle", count, folder, groups] => number(count)
            .zip(number(groups).filter(|groups| *groups > 0))
            .map(|(count, groups)| sleep_all(count, Some((folder, groups)), &mut children)),
        _ => None,
    };
    let Some(made) = made else {
        eprintln!("usage: many_processes serve N STAMPS | idle N [FOLDER GROUPS]");
        return ExitCode::from(2);
    };
    match &made {
        Ok(ports) => println!("ready {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")),
        Err(error) => eprintln!("many_processes: {error}, after {} processes", children.len()),
    }
    if made.is_ok() {
        wait_for(libc::SIGTERM);
    }
    for child in &children {
        // SAFETY: plain system calls; each is a child of this process that was not waited for yet.
        unsafe { libc::kill(*child, libc::SIGKILL) };
    }
    for child in &children {
        // SAFETY: as above; the status is not asked for.
        unsafe { libc::waitpid(*child, std::ptr::null_mut(), 0) };
    }
    if made.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The ports of so many servers.
fn serve_all(count: u64, stamps: &str, children: &mut Vec<libc::pid_t>) -> io::Result<Vec<u16>> {
    let stamps = OpenOptions::new().append(true).create(true).open(stamps)?;
    let mut ports = Vec::new();
    for number in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ports.push(listener.local_addr()?.port());
        children.push(fork(|| serve(&listener, &stamps, number))?);
    }
    Ok(ports)
}

fn serve(listener: &TcpListener, mut stamps: &File, number: u64) -> ! {
    let mut request = [0; 4096];
    loop {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let now = clock_gettime(ClockId::Monotonic);
        let at = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&number.to_ne_bytes());
        stamp[8..].copy_from_slice(&at.to_ne_bytes());
        // A lost stamp shows as a probe that was not run; the client may also go away before the answer.
        let _ = stamps.write_all(&stamp);
        let _ = stream.read(&mut request);
        let _ = stream.write_all(ANSWER);
    }
}

fn sleep_all(
    count: u64,
    groups: Option<(&str, u64)>,
    children: &mut Vec<libc::pid_t>,
) -> io::Result<Vec<u16>> {
    let mut group = None;
    for number in 0..count {
        if let Some((folder, groups)) = groups {
            // A child starts in the cgroup of its parent, so that there is one move a group and none a child.
            let next = number * groups / count;
            if group.replace(next) != Some(next) {
                fs::write(format!("{folder}/{next}/cgroup.procs"), "0")?;
            }
        }
        let sleep = || loop {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        };
        children.push(fork(sleep)?);
    }
    Ok(Vec::new())
}

/// Has a child do this and nothing else; its pid.
fn fork(child: impl FnOnce()) -> io::Result<libc::pid_t> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            end_with_parent(libc::SIGKILL);
            child();
            std::process::exit(0)
        }
        pid => Ok(pid),
    }
}

/// Has the kernel send a signal when the parent ends.
fn end_with_parent(signal: Word) {
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Keeps a signal until it is waited for.
fn hold_back(signal: Word) {
    // SAFETY: the set is initialised before it is used, and outlives the calls.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn wait_for(signal: Word) {
    // SAFETY: as in `hold_back`.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        let mut came = 0;
        libc::sigwait(&raw const set, &raw mut came);
    }
}
