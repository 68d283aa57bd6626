//! A service's TCP listeners refuse connections.
//!
//! `shutdown(2)` on any descriptor of a listener ends the listening for all of them: the kernel resets the connections
//! that wait, and refuses further ones (`inet_shutdown` and `tcp_disconnect` in the kernel's net/ipv4). A listener that was
//! bound to a port stays so, and `listen(2)` has it listen again. The daemon keeps no duplicate: it would keep the port from
//! the next process of the service.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    net::SocketAddr,
    os::fd::{FromRawFd as _, OwnedFd},
};

use rustix::{
    fs::fstat,
    io::Errno,
    net::{
        AddressFamily, Shutdown, bind, getsockname, ipproto, listen, shutdown,
        sockopt::{socket_acceptconn, socket_domain, socket_protocol},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    error::DrillError,
    process::{self, ProcessHandle},
};
use crate::{fact::ProcessKey, host::ProcReader};

/// The most descriptors of a process that are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

/// A listener by where it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenListener {
    pub process: ProcessKey,
    pub descriptor: i32,
    /// Of the socket.
    pub inode: u64,
    pub address: SocketAddr,
    /// How many connections may wait for it.
    pub backlog: i32,
}

/// The listeners of these processes on these ports, each once.
pub(super) fn find(
    family: &[ProcessKey],
    ports: &[u16],
    reader: &ProcReader,
) -> Result<Vec<OpenListener>, DrillError> {
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for key in family {
        let process = match ProcessHandle::open(*key, reader) {
            Ok(process) => process,
            // A child may end at any time.
            Err(_) => continue,
        };
        for (descriptor, inode) in sockets(reader, key.pid) {
            if !known.insert(inode) {
                continue;
            }
            let socket = match duplicate(&process, descriptor) {
                Ok(socket) => socket,
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    return Err(DrillError::NoGetfd(error));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => continue,
                Err(source) => {
                    let port = ports.first().copied().unwrap_or_default();
                    return Err(DrillError::Listener { port, pid: key.pid, source });
                }
            };
            if let Some(address) = listening_on(&socket).filter(|at| ports.contains(&at.port())) {
                let backlog = backlog(&socket);
                found.push(OpenListener { process: *key, descriptor, inode, address, backlog });
            }
        }
    }
    if found.is_empty() {
        return Err(DrillError::NoListener);
    }
    refuse_shared(&found, family, reader)?;
    Ok(found)
}

/// Fails if another process has one of the listeners open.
fn refuse_shared(
    found: &[OpenListener],
    family: &[ProcessKey],
    reader: &ProcReader,
) -> Result<(), DrillError> {
    // It comes first.
    let main = family.first().copied();
    let own: BTreeSet<u32> = family.iter().map(|key| key.pid).collect();
    for pid in reader.pids().unwrap_or_default().into_iter().filter(|pid| !own.contains(pid)) {
        let open: HashSet<u64> = reader.socket_inodes(pid).into_iter().collect();
        if let Some(OpenListener { address, .. }) =
            found.iter().find(|listener| open.contains(&listener.inode))
        {
            // The service may have forked meanwhile.
            if main.is_some_and(|main| process::family(main, reader).iter().any(|key| key.pid == pid)) {
                continue;
            }
            let name = reader.read(pid).map(|process| process.name).unwrap_or_default();
            return Err(DrillError::SharedListener { port: address.port(), pid, name });
        }
    }
    Ok(())
}

/// Such as `port 80, port 443`.
pub(super) fn words(listeners: &[OpenListener]) -> String {
    let ports: BTreeSet<u16> = listeners.iter().map(|listener| listener.address.port()).collect();
    let ports: Vec<String> = ports.into_iter().map(|port| format!("port {port}")).collect();
    ports.join(", ")
}

impl OpenListener {
    pub(super) fn shut_down(&self, reader: &ProcReader) -> Result<(), DrillError> {
        let socket = self.socket(reader)?;
        shutdown(&socket, Shutdown::Both).map_err(|errno| self.failed(errno.into()))
    }

    /// Has it listen again, if its process lives. True if it did not listen.
    pub(super) fn revive(&self, reader: &ProcReader) -> Result<bool, DrillError> {
        let socket = self.socket(reader)?;
        if socket_acceptconn(&socket).unwrap_or(true) {
            return Ok(false);
        }
        match bind(&socket, &self.address) {
            // It has kept its port. One that was bound to no port in particular has lost it.
            Err(Errno::INVAL) | Ok(()) => {}
            Err(errno) => return Err(self.failed(errno.into())),
        }
        listen(&socket, self.backlog).map_err(|errno| self.failed(errno.into()))?;
        Ok(true)
    }

    fn socket(&self, reader: &ProcReader) -> Result<OwnedFd, DrillError> {
        let process = ProcessHandle::open(self.process, reader)?;
        let socket = duplicate(&process, self.descriptor).map_err(|error| self.failed(error))?;
        let inode = fstat(&socket).map_err(|errno| self.failed(errno.into()))?.st_ino;
        // The process has closed it, and has something else open by now.
        if inode == self.inode { Ok(socket) } else { Err(DrillError::NoListener) }
    }

    fn failed(&self, source: io::Error) -> DrillError {
        DrillError::Listener { port: self.address.port(), pid: self.process.pid, source }
    }
}

/// The descriptors of a process that are sockets, with their inodes.
fn sockets(reader: &ProcReader, pid: u32) -> Vec<(i32, u64)> {
    let entries = fs::read_dir(reader.folder(pid).join("fd")).into_iter().flatten().flatten();
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    };
    entries.take(DESCRIPTORS_MAX).filter_map(socket).collect()
}

/// A descriptor of another process, as one of this process.
fn duplicate(process: &ProcessHandle, descriptor: i32) -> io::Result<OwnedFd> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    // SAFETY: the call takes two numbers and a flag, and changes no memory of this process.
    let duplicate =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), descriptor, 0) };
    let duplicate = i32::try_from(duplicate).ok().filter(|descriptor| *descriptor >= 0);
    let duplicate = duplicate.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Where a socket listens over TCP.
fn listening_on(socket: &OwnedFd) -> Option<SocketAddr> {
    let is_ip = matches!(socket_domain(socket).ok()?, AddressFamily::INET | AddressFamily::INET6);
    let is_tcp = || socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::TCP));
    if !is_ip || !is_tcp() || !socket_acceptconn(socket).ok()? {
        return None;
    }
    getsockname(socket).ok()?.try_into().ok()
}

/// The kernel reports it in `tcp_info` of a listener (`tcp_get_info` in net/ipv4/tcp.c): `tcpi_sacked`.
fn backlog(socket: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
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
    let backlog = if read == 0 { info.tcpi_sacked } else { 0 };
    // The kernel bounds it by net.core.somaxconn.
    i32::try_from(backlog).ok().filter(|backlog| *backlog > 0).unwrap_or(libc::SOMAXCONN)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    #[test]
    fn a_listener_refuses_until_it_is_revived() {
        let reader = ProcReader::new("/").unwrap();
        let own = reader.key_of(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = loop {
            match find(&[own], &[address.port()], &reader) {
                // Another test forks, and the child has not executed its program yet.
                Err(DrillError::SharedListener { .. }) => {}
                found => break found.unwrap(),
            }
        };
        let [open] = &found[..] else { panic!("{found:?}") };
        // The backlog is that of the standard library.
        assert_eq!((open.address, open.descriptor, open.backlog), (address, listener.as_raw_fd(), 128));
        TcpStream::connect(address).unwrap();
        open.shut_down(&reader).unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(open.revive(&reader).unwrap());
        TcpStream::connect(address).unwrap();
        assert!(!open.revive(&reader).unwrap(), "it listens");
        // Its descriptor leads elsewhere by now.
        let elsewhere = OpenListener { inode: open.inode + 1, ..open.clone() };
        assert!(matches!(elsewhere.shut_down(&reader), Err(DrillError::NoListener)));
    }

    #[test]
    fn a_listener_of_several_services_is_left_alone() {
        let reader = ProcReader::new("/").unwrap();
        let own = reader.key_of(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = OpenListener {
            process: own,
            descriptor: listener.as_raw_fd(),
            inode: fstat(&listener).unwrap().st_ino,
            address,
            backlog: 1,
        };
        let refused = refuse_shared(&[shared], &[], &reader).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("port {} is open in process {} ", address.port(), own.pid)),
            "{refused}"
        );
    }
}
