//! Sockets of other processes, as descriptors of this one (`pidfd_getfd(2)`, Linux 5.6): what the kernel tells of a socket
//! only to those who have it open. It takes `CAP_SYS_PTRACE`, and works in every network namespace.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use rustix::net::{
    AddressFamily, getsockname, ipproto,
    sockopt::{socket_acceptconn, socket_domain, socket_protocol},
};

use super::ProcReader;

/// The most descriptors of a process that are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

impl ProcReader {
    /// The descriptors of a process that are sockets, with their inodes.
    pub fn open_sockets(&self, pid: u32) -> Vec<(i32, u64)> {
        let entries = fs::read_dir(self.folder(pid).join("fd")).into_iter().flatten().flatten();
        let socket = |entry: fs::DirEntry| {
            let link = fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        };
        entries.take(DESCRIPTORS_MAX).filter_map(socket).collect()
    }
}

/// A descriptor of another process, as one of this process.
pub fn duplicate(process: BorrowedFd<'_>, descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and a flag, and changes no memory of this process.
    let duplicate = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) };
    let duplicate = i32::try_from(duplicate).ok().filter(|descriptor| *descriptor >= 0);
    let duplicate = duplicate.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Where a socket listens over TCP.
pub fn listening_on(socket: &OwnedFd) -> Option<SocketAddr> {
    let is_ip = matches!(socket_domain(socket).ok()?, AddressFamily::INET | AddressFamily::INET6);
    let is_tcp = || socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::TCP));
    if !is_ip || !is_tcp() || !socket_acceptconn(socket).ok()? {
        return None;
    }
    getsockname(socket).ok()?.try_into().ok()
}

/// How many connections wait for a listener, and how many may. The kernel reports them in `tcp_info` of a listener
/// (`tcp_get_info` in net/ipv4/tcp.c) as `tcpi_unacked` and `tcpi_sacked`.
pub fn accept_queue_of(socket: &OwnedFd) -> Option<(u32, u32)> {
    // SAFETY: all of its fields are numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many.
    let read = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (read == 0).then_some((info.tcpi_unacked, info.tcpi_sacked))
}
