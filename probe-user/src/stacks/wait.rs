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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::{call::Position, fake::FakeHost},
        stacks::descriptor::ServiceNames,
    };

    const POSITION: Position = Position { stack_pointer: 0, program_counter: 0 };

    fn call(number: i64, arguments: [u64; 6]) -> Option<Call> {
        Some(Call::In(SystemCall { number, arguments, position: POSITION }))
    }

    /// What a thread of the fake host does, for one and for several.
    fn words(state: char, channel: Option<&str>, call: Option<Call>) -> String {
        let host = FakeHost::v2();
        host.process(10, 1, "app", "/app");
        host.fd(10, 3, "pipe:[5]");
        host.fd(10, 4, "/data/x");
        host.fd(10, 5, "socket:[77]");
        host.fd(10, 6, "socket:[78]");
        let row = |remote: &str, state: &str, inode: u32| {
            format!(
                "   0: 0100007F:C351 {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
            )
        };
        let table = row("0100007F:1538", "01", 77) + &row("090200C0:1538", "02", 78);
        host.write("proc/10/net/tcp", format!("head\n{table}").as_bytes());
        let reader = host.reader();
        let names = ServiceNames {
            here: [(5432, "cache".to_owned())].into(),
            elsewhere: [("192.0.2.9:5432".parse().unwrap(), "orders-db".to_owned())].into(),
        };
        let files = OpenFiles::new(&reader, &names);
        let thread = WaitingThread { pid: 10, tid: 10, state, channel, call, tids: &[10, 11] };
        of(&thread, &files).words(false)
    }

    #[test]
    fn each_wait_has_its_words() {
        let read = |number| call(libc::SYS_read, [number, 0, 0, 0, 0, 0]);
        let cases = [
            ('R', None, Some(Call::Running), "runs"),
            ('S', None, read(3), "waits in read() for a pipe"),
            ('S', None, read(4), "waits in read() for /data/x"),
            ('S', None, read(5), "waits in read() for data from 127.0.0.1:5432 (cache)"),
            ('S', None, read(99), "waits in read()"),
            (
                'S',
                None,
                call(libc::SYS_connect, [6, 0, 0, 0, 0, 0]),
                "waits in connect() to 192.0.2.9:5432 (orders-db)",
            ),
            (
                'S',
                None,
                call(libc::SYS_sendto, [5, 0, 0, 0, 0, 0]),
                "waits in sendto() for 127.0.0.1:5432 (cache) to read",
            ),
            ('S', None, call(libc::SYS_write, [3, 0, 0, 0, 0, 0]), "waits in write() for a pipe to be read"),
            ('S', None, call(libc::SYS_wait4, [0; 6]), "waits for a child process in wait4()"),
            ('S', None, call(libc::SYS_accept4, [0; 6]), "waits for work in accept4()"),
            (
                'S',
                None,
                call(libc::SYS_flock, [4, 2, 0, 0, 0, 0]),
                "waits for a file lock of /data/x in flock()",
            ),
            ('S', None, call(libc::SYS_futex, [0, 128, 9, 0, 0, 0]), "waits to be woken (futex)"),
            ('S', None, call(libc::SYS_futex, [0, 128, 2, 0, 0, 0]), "waits for a lock (futex)"),
            ('S', None, call(libc::SYS_futex, [0, 0, 11, 0, 0, 0]), "waits for the end of thread 11"),
            ('S', None, call(9999, [0; 6]), "waits in the system call 9999"),
            ('D', Some("folio_wait_bit"), read(4), "waits for the disk (folio_wait_bit, read() of /data/x)"),
            ('D', Some("msleep"), Some(Call::Outside(POSITION)), "waits in the kernel (msleep)"),
            (
                'D',
                Some("kernel_clone"),
                call(libc::SYS_clone3, [0; 6]),
                "waits for a child process in vfork()",
            ),
            ('S', None, None, "waits for something unknown"),
            ('T', None, None, "is stopped by a signal"),
        ];
        for (state, channel, call, expected) in cases {
            assert_eq!(words(state, channel, call), expected);
        }
    }

    #[test]
    fn a_thread_whose_wait_would_end_is_not_stopped() {
        assert!(ends_if_stopped(call(libc::SYS_epoll_pwait, [0; 6]), None));
        assert!(ends_if_stopped(call(libc::SYS_semtimedop, [0; 6]), None));
        assert!(ends_if_stopped(call(libc::SYS_read, [0; 6]), Some("fuse_get_req")));
        assert!(!ends_if_stopped(call(libc::SYS_futex, [0; 6]), Some("futex_do_wait")));
        assert!(!ends_if_stopped(Some(Call::Running), None));
    }
}
