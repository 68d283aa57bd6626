//! A service's TCP listeners refuse connections.
//!
//! `shutdown(2)` on any descriptor of a listener ends the listening for all of them: the kernel resets the connections
//! that wait, and refuses further ones (`inet_shutdown` and `tcp_disconnect` in the kernel's net/ipv4). A listener that was
//! bound to a port stays so, and `listen(2)` has it listen again. The daemon keeps no duplicate: it would keep the port from
//! the next process of the service.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::fstat,
    io::Errno,
    net::{Shutdown, bind, listen, shutdown, sockopt::socket_acceptconn},
};
use serde::{Deserialize, Serialize};

use super::{
    error::DrillError,
    process::{self, ProcessHandle},
};
use crate::{
    fact::ProcessKey,
    host::{
        ProcReader,
        open_socket::{accept_queue_of, duplicate, listening_on},
    },
};

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
        for (descriptor, inode) in reader.open_sockets(key.pid) {
            if !known.insert(inode) {
                continue;
            }
            let socket = match duplicate(process.as_fd(), descriptor) {
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
        let socket = duplicate(process.as_fd(), self.descriptor).map_err(|error| self.failed(error))?;
        let inode = fstat(&socket).map_err(|errno| self.failed(errno.into()))?.st_ino;
        // The process has closed it, and has something else open by now.
        if inode == self.inode { Ok(socket) } else { Err(DrillError::NoListener) }
    }

    fn failed(&self, source: io::Error) -> DrillError {
        DrillError::Listener { port: self.address.port(), pid: self.process.pid, source }
    }
}

/// How many connections may wait. The kernel bounds it by net.core.somaxconn.
fn backlog(socket: &OwnedFd) -> i32 {
    let backlog = accept_queue_of(socket).map_or(0, |(_, backlog)| backlog);
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
