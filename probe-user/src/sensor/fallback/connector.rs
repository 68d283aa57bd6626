//! The kernel's process connector: forks, execs and exits of all processes, over netlink (`NETLINK_CONNECTOR`,
//! `linux/cn_proc.h`).
//!
//! It reports every thread of the host, wakes the reader for each, and names neither the sender of a signal nor the OOM
//! killer. That makes it a fallback. It needs `CAP_NET_ADMIN` (since Linux 6.6 no capability) in the initial user, pid
//! and network namespaces, and a kernel with `CONFIG_PROC_EVENTS`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
        sockopt,
    },
};

use crate::clock::Timestamp;

/// `CN_IDX_PROC` and `CN_VAL_PROC`: the multicast group and the connector's name (`linux/connector.h`).
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `NLMSG_DONE`, the type of all its messages.
const DONE: u16 = 3;
/// `struct nlmsghdr` and `struct cn_msg`, which come before an event.
const HEADERS: usize = 16 + 20;
/// The part of `struct proc_event` that all events share: what, CPU, time.
const EVENT: usize = HEADERS + 16;

/// `enum proc_cn_event`.
const ACKNOWLEDGED: u32 = 0;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;

/// Room for what comes while the daemon is busy: some ten thousand events.
const BUFFER: usize = 4 << 20;

/// How long the kernel may take to acknowledge, which it does at once if it does so at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// Most messages taken in one go.
const BATCH: usize = 4096;

/// Something that happened to a process or a thread. All ids are of the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process started another; not a thread.
    Fork {
        /// The new process.
        child: u32,
        parent: u32,
        /// When.
        at: Timestamp,
    },
    /// A process executed a program.
    Exec {
        /// The process.
        pid: u32,
        /// When.
        at: Timestamp,
    },
    /// A thread ended.
    Exit {
        /// Its process.
        pid: u32,
        /// Its wait status.
        status: u32,
        /// Its process's real parent; 0 before Linux 4.18.
        parent: u32,
        /// When.
        at: Timestamp,
    },
}

#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
}

impl Connector {
    /// Begins to listen.
    ///
    /// Fails without the right, in other namespaces than the initial ones, and where the kernel does not answer.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::CONNECTOR))?;
        // Without the right to more, it stays at the host's limit.
        if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
        }
        bind(&socket, &netlink::SocketAddrNetlink::new(0, PROC))?;
        send(&socket, &subscription(), SendFlags::empty())?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let connector = Self { socket };
        connector.acknowledged()?;
        rustix::io::ioctl_fionbio(&connector.socket, true)?;
        Ok(connector)
    }

    /// Waits for the kernel's acknowledgement: a kernel without the connector accepts the request, and stays silent.
    fn acknowledged(&self) -> io::Result<()> {
        let mut buffer = [0; 256];
        for _ in 0..BATCH {
            let (length, _) = recv(&self.socket, &mut buffer, RecvFlags::empty()).map_err(|error| {
                if error == Errno::AGAIN {
                    io::Error::other("the kernel does not answer")
                } else {
                    error.into()
                }
            })?;
            let message = &buffer[..length];
            if number(message, HEADERS) == Some(ACKNOWLEDGED) {
                return match number(message, EVENT) {
                    Some(0) => Ok(()),
                    Some(error) => Err(io::Error::from_raw_os_error(error.cast_signed())),
                    None => Err(io::Error::other("the kernel's answer is cut short")),
                };
            }
        }
        Err(io::Error::other("the kernel does not answer"))
    }

    /// Passes on each event that has come; false if there may be more. Fails with `ENOBUFS` when events were lost,
    /// after which it goes on.
    pub fn read(&self, mut each: impl FnMut(Event)) -> io::Result<bool> {
        let mut buffer = [0; 256];
        for _ in 0..BATCH {
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    if let Some(event) = event(&buffer[..length]) {
                        each(event);
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The request for events.
fn subscription() -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADERS + 4);
    message.extend((HEADERS as u32 + 4).to_ne_bytes());
    message.extend(DONE.to_ne_bytes());
    // Flags, sequence, and the sender's port, which the kernel fills in; then the connector's name.
    message.extend([0; 2 + 4 + 4]);
    message.extend(PROC.to_ne_bytes());
    message.extend(PROC.to_ne_bytes());
    // Sequence and acknowledgement, the length of what follows, flags.
    message.extend([0; 8]);
    message.extend(4_u16.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(LISTEN.to_ne_bytes());
    message
}

/// Reads one message; None for what does not matter here, as a thread's start.
pub(super) fn event(message: &[u8]) -> Option<Event> {
    let field = |index: usize| number(message, EVENT + 4 * index);
    let at = || {
        let nanos = message.get(HEADERS + 8..HEADERS + 16)?;
        Some(Timestamp::from_monotonic_nanos(u64::from_ne_bytes(nanos.try_into().ok()?)))
    };
    match number(message, HEADERS)? {
        FORK => {
            let (parent, thread, child) = (field(1)?, field(2)?, field(3)?);
            let at = at()?;
            (thread == child).then_some(Event::Fork { child, parent, at })
        }
        EXEC => Some(Event::Exec { pid: field(1)?, at: at()? }),
        EXIT => Some(Event::Exit {
            pid: field(1)?,
            status: field(2)?,
            parent: field(5).unwrap_or_default(),
            at: at()?,
        }),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: u32, fields: &[u32]) -> Vec<u8> {
        let mut message = vec![0; HEADERS];
        message.extend(what.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(5_000_000_000_u64.to_ne_bytes());
        message.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        message
    }

    #[test]
    fn events_are_read_and_threads_that_start_are_skipped() {
        let fork = message(FORK, &[10, 10, 11, 11]);
        assert!(matches!(event(&fork), Some(Event::Fork { child: 11, parent: 10, .. })));
        assert_eq!(event(&message(FORK, &[10, 10, 12, 10])), None);
        let Some(Event::Exit { pid, status, parent, at }) = event(&message(EXIT, &[13, 10, 139, 17, 9, 8]))
        else {
            panic!("an exit")
        };
        assert_eq!((pid, status, parent), (10, 139, 8));
        assert!(at.as_nanos() >= 5_000_000_000);
        assert!(matches!(event(&message(EXIT, &[10, 10, 9, 17])), Some(Event::Exit { parent: 0, .. })));
        assert!(matches!(event(&message(EXEC, &[10, 10])), Some(Event::Exec { pid: 10, .. })));
        assert_eq!(event(&message(0x400, &[10, 10])), None);
        for length in 0..fork.len() {
            assert_eq!(event(&fork[..length]), None);
        }
    }
}
