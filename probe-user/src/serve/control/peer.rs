//! The user at the other end of the socket.

use std::{fs, io, mem, os::fd::AsRawFd as _, time::Duration};

use tokio::net::UnixStream;

use crate::{
    bounded_thread,
    fact::{Operator, User},
    host::accounts,
};

/// How long the names of users may take. A directory service of another host may have to be asked.
const NAMES: Duration = Duration::from_secs(1);

/// `/proc/PID/loginuid` of a process that no login started.
const NO_LOGIN: u32 = u32::MAX;

pub(super) struct Peer {
    user: u32,
    groups: Vec<u32>,
    login: Option<u32>,
}

impl Peer {
    /// The user that connected, as the kernel noted it then.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = supplementary_groups(stream)?;
        groups.push(credentials.gid());
        let login = |pid| fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?.trim().parse().ok();
        let login = credentials.pid().and_then(login).filter(|login| *login != NO_LOGIN);
        Ok(Self { user: credentials.uid(), groups, login })
    }

    /// Whether it may ask and give commands: root, the daemon's own user, and the members of the group.
    pub(super) fn is_admitted(&self, group: Option<u32>) -> bool {
        self.user == 0
            || self.user == rustix::process::geteuid().as_raw()
            || group.is_some_and(|group| self.groups.contains(&group))
    }

    /// The user with its names.
    pub(super) async fn operator(&self) -> Operator {
        let (user, login) = (self.user, self.login);
        let named = |id| User { id, name: accounts::user_name(id) };
        let look_up = move || Operator { user: named(user), login: login.map(named) };
        let nameless = |id| User { id, name: None };
        let found = bounded_thread::answer("names", NAMES, look_up).await;
        found.unwrap_or_else(|_| Operator { user: nameless(user), login: login.map(nameless) })
    }
}

/// The groups besides the primary one, by `SO_PEERGROUPS` (`unix(7)`).
fn supplementary_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of the kernel.
    const MOST: usize = 65_536;
    let mut groups = vec![0_u32; 64];
    loop {
        let mut size = mem::size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `size` bytes to the buffer, and their number to `size`.
        let done = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        let count = size as usize / mem::size_of::<u32>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The buffer was too small, and `size` says how large it has to be.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_known_by_its_user_and_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.user, rustix::process::geteuid().as_raw());
        assert!(peer.groups.contains(&rustix::process::getegid().as_raw()));
        assert!(peer.is_admitted(None));
        assert_eq!(peer.operator().await.user.id, peer.user);
        let other = Peer { user: 65_534, groups: vec![7, 65_534], login: None };
        assert!(!other.is_admitted(None) && !other.is_admitted(Some(8)));
        assert!(other.is_admitted(Some(7)));
    }
}
