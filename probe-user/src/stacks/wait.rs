//! What a thread waits for: from its system call, the arguments of that, and what its descriptors are.

use super::{
    call_name,
    descriptor::{Descriptor, OpenFiles},
    futex,
    reason::{Reason, WaitingThread},
};
use crate::host::call::{Call, SystemCall};

/// Functions of the kernel that wait for a disk or a file system, by the parts of their names.
const DISK: [&str; 22] = [
    "io_schedule",
    "folio_wait",
    "wait_on_page",
    "wait_on_buffer",
    "blk_",
    "bio_",
    "jbd2",
    "ext4",
    "xfs_",
    "btrfs",
    "nfs",
    "rpc_",
    "fuse",
    "request_wait_answer",
    "cifs",
    "ceph",
    "dm_",
    "md_",
    "writeback",
    "balance_dirty",
    "sb_start",
    "wb_wait",
];

/// What a thread waits for.
pub fn of(thread: &WaitingThread<'_>, files: &OpenFiles<'_>) -> Reason {
    match thread.state {
        'T' => return Reason::Stopped("is stopped by a signal"),
        't' => return Reason::Stopped("is stopped by a tracer"),
        'Z' | 'X' => return Reason::Stopped("has ended"),
        'R' => return Reason::Runs,
        _ => {}
    }
    let is_held = thread.state == 'D';
    let in_kernel = || in_kernel(thread, files);
    match thread.call {
        Some(Call::In(call)) if is_held && is_fork(call.number) => Reason::Child("vfork"),
        _ if is_disk(thread.channel) => Reason::Disk(in_kernel()),
        Some(Call::In(call)) if !is_held => of_call(thread, &call, files),
        Some(Call::Running) if !is_held => Reason::Runs,
        None if thread.channel.is_none() => Reason::Unknown,
        Some(_) | None => Reason::Kernel(in_kernel()),
    }
}

/// The function of the kernel that a thread waits in, and for what file.
fn in_kernel(thread: &WaitingThread<'_>, files: &OpenFiles<'_>) -> String {
    let channel = thread.channel.unwrap_or("an unknown function");
    let Some(Call::In(call)) = thread.call else { return channel.to_owned() };
    let Some(name) = call_name::of(call.number) else { return channel.to_owned() };
    let file = call_name::has_descriptor(name).then(|| files.descriptor(thread.pid, call.arguments[0]));
    match file.flatten() {
        Some(Descriptor::Other(path)) => format!("{channel}, {name}() of {path}"),
        Some(Descriptor::Tcp { .. }) | None => format!("{channel}, {name}()"),
    }
}

fn is_disk(channel: Option<&str>) -> bool {
    channel.is_some_and(|channel| DISK.iter().any(|part| channel.contains(part)))
}

/// Whether a wait would end with `EINTR` if the thread was stopped (`signal(7)`), or whether the file system's server
/// would be asked to end it (`fuse_request_wait_answer` in the kernel).
pub fn ends_if_stopped(call: Option<Call>, channel: Option<&str>) -> bool {
    let by_call = matches!(call, Some(Call::In(call)) if call_name::ends_if_stopped(call.number));
    by_call || is_disk(channel)
}

fn is_fork(number: i64) -> bool {
    number == libc::SYS_clone || number == libc::SYS_clone3 || call_name::of(number) == Some("vfork")
}

fn of_call(thread: &WaitingThread<'_>, call: &SystemCall, files: &OpenFiles<'_>) -> Reason {
    let Some(name) = call_name::of(call.number) else {
        return Reason::Call(format!("the system call {}", call.number));
    };
    let descriptor = |number| files.descriptor(thread.pid, number);
    match name {
        "futex" => futex::wait(thread, &call.arguments),
        "connect" => match descriptor(call.arguments[0]) {
            Some(Descriptor::Tcp { remote: Some(peer), .. }) => Reason::Connect(name, peer),
            other => of_descriptor(name, other),
        },
        "read" | "readv" | "pread64" | "recvfrom" | "recvmsg" | "recvmmsg" => {
            match descriptor(call.arguments[0]) {
                Some(Descriptor::Tcp { remote: Some(peer), .. }) => Reason::Answer(name, peer),
                other => of_descriptor(name, other),
            }
        }
        "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => {
            match descriptor(call.arguments[0]) {
                Some(Descriptor::Tcp { remote: Some(peer), .. }) => Reason::Room(name, peer),
                Some(Descriptor::Other(what)) => Reason::Descriptor(name, format!("{what} to be read")),
                other => of_descriptor(name, other),
            }
        }
        "poll" | "ppoll" => match futex::polled(thread.pid, &call.arguments).and_then(descriptor) {
            Some(Descriptor::Tcp { remote: Some(peer), connects: true }) => Reason::Connect(name, peer),
            Some(Descriptor::Tcp { remote: Some(peer), .. }) => Reason::Answer(name, peer),
            Some(Descriptor::Tcp { remote: None, .. } | Descriptor::Other(_)) | None => Reason::Idle(name),
        },
        "flock" | "fcntl" => {
            let path = descriptor(call.arguments[0]).and_then(|found| match found {
                Descriptor::Other(path) => Some(path),
                Descriptor::Tcp { .. } => None,
            });
            Reason::FileLock(name, path)
        }
        "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" => Reason::Disk(in_kernel(thread, files)),
        "nanosleep" | "clock_nanosleep" => Reason::Sleep(name),
        "wait4" | "waitid" | "vfork" => Reason::Child(name),
        _ if call_name::is_idle(name) => Reason::Idle(name),
        _ => Reason::Call(format!("{name}()")),
    }
}

fn of_descriptor(name: &'static str, found: Option<Descriptor>) -> Reason {
    match found {
        Some(Descriptor::Other(what)) => Reason::Descriptor(name, what),
        Some(Descriptor::Tcp { .. }) => Reason::Descriptor(name, "a TCP socket".to_owned()),
        None => Reason::Call(format!("{name}()")),
    }
}
