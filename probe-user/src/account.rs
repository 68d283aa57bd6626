//! Users and groups of this host, from the databases that `nsswitch.conf(5)` names.
//!
//! A lookup may ask a server that does not answer. Call these functions where that holds up nothing else.

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    fmt, io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt as _,
    ptr,
};

/// An entry with more bytes is refused: a group of ten thousand members has some 100 KiB.
const LARGEST_ENTRY: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("this host has no {kind} {name}")]
    Unknown { kind: Kind, name: String },
    #[error("the {kind} {name} cannot be looked up: {source}")]
    Lookup { kind: Kind, name: String, source: io::Error },
}

/// An entry of `passwd(5)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: OsString,
    pub uid: u32,
    pub gid: u32,
    pub home: OsString,
    pub shell: OsString,
}

/// Finds a user by name or by number.
pub fn user(name: &str) -> Result<User, AccountError> {
    let read = |entry: &libc::passwd| {
        // SAFETY: the C library returns strings, which live as long as the entry.
        let text = |text: *const libc::c_char| unsafe { owned(text) };
        User {
            name: text(entry.pw_name),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            home: text(entry.pw_dir),
            shell: text(entry.pw_shell),
        }
    };
    find(Kind::User, name, read, |key, entry, buffer, length, found| {
        // SAFETY: `find` passes room for an entry and a buffer of this length.
        unsafe {
            match key {
                Key::Name(name) => libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found),
                Key::Number(uid) => libc::getpwuid_r(*uid, entry, buffer, length, found),
            }
        }
    })
}

/// Finds the number of a group by name or by number.
pub fn group(name: &str) -> Result<u32, AccountError> {
    let read = |entry: &libc::group| entry.gr_gid;
    find(Kind::Group, name, read, |key, entry, buffer, length, found| {
        // SAFETY: as in `user`.
        unsafe {
            match key {
                Key::Name(name) => libc::getgrnam_r(name.as_ptr(), entry, buffer, length, found),
                Key::Number(gid) => libc::getgrgid_r(*gid, entry, buffer, length, found),
            }
        }
    })
}

/// Whether the host has this user or group.
pub fn exists(kind: Kind, name: &str) -> Result<(), AccountError> {
    match kind {
        Kind::User => user(name).map(drop),
        Kind::Group => group(name).map(drop),
    }
}

impl User {
    /// All groups of a login of this user: `gid`, and those that have the user as a member (`initgroups(3)`).
    pub fn groups(&self, gid: u32) -> Result<Vec<u32>, AccountError> {
        let failed = |source| AccountError::Lookup {
            kind: Kind::User,
            name: self.name.to_string_lossy().into_owned(),
            source,
        };
        let name = CString::new(self.name.as_bytes()).map_err(|error| failed(error.into()))?;
        let mut groups = vec![0; 32];
        loop {
            let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
            // SAFETY: the list has room for `count` groups.
            let listed =
                unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
            let count = usize::try_from(count).unwrap_or(0);
            if listed >= 0 {
                groups.truncate(count);
                return Ok(groups);
            }
            if count <= groups.len() {
                return Err(failed(io::Error::other("the list of groups has no end")));
            }
            groups.resize(count, 0);
        }
    }
}

enum Key {
    Name(CString),
    Number(u32),
}

/// Calls one of the `_r` functions with a buffer that grows until the entry fits.
fn find<T, R>(
    kind: Kind,
    name: &str,
    read: impl Fn(&T) -> R,
    call: impl Fn(&Key, *mut T, *mut libc::c_char, usize, *mut *mut T) -> i32,
) -> Result<R, AccountError> {
    let unknown = || AccountError::Unknown { kind, name: name.to_owned() };
    let key = match name.parse() {
        Ok(number) => Key::Number(number),
        Err(_) => Key::Name(CString::new(name).map_err(|_| unknown())?),
    };
    let mut buffer = vec![0; 1024];
    loop {
        let (mut entry, mut found) = (MaybeUninit::<T>::uninit(), ptr::null_mut());
        match call(&key, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            0 if found.is_null() => return Err(unknown()),
            // SAFETY: the call filled the entry in, and its buffer still lives.
            0 => return Ok(read(unsafe { &*found })),
            libc::ERANGE if buffer.len() < LARGEST_ENTRY => buffer.resize(4 * buffer.len(), 0),
            // Some databases report so that they have no such entry (`getpwnam(3)`).
            libc::ENOENT | libc::ESRCH => return Err(unknown()),
            errno => {
                let source = io::Error::from_raw_os_error(errno);
                return Err(AccountError::Lookup { kind, name: name.to_owned(), source });
            }
        }
    }
}

/// # Safety
/// `text` is null or a string that ends with a zero.
unsafe fn owned(text: *const libc::c_char) -> OsString {
    if text.is_null() {
        return OsString::new();
    }
    // SAFETY: as the caller promises.
    OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_by_number() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.to_str()), (0, 0, Some("/root")));
        assert_eq!(user("0").unwrap(), root);
        assert_eq!((group("root").unwrap(), group("0").unwrap()), (0, 0));
        assert!(root.groups(54_321).unwrap().contains(&54_321));
    }

    #[test]
    fn an_account_that_the_host_lacks_is_named() {
        let unknown = user("no-such-user").unwrap_err();
        assert!(matches!(unknown, AccountError::Unknown { kind: Kind::User, .. }));
        assert_eq!(unknown.to_string(), "this host has no user no-such-user");
        assert_eq!(group("4294967294").unwrap_err().to_string(), "this host has no group 4294967294");
        assert!(exists(Kind::Group, "a\0b").is_err());
    }

    #[test]
    fn the_groups_of_a_user_are_those_of_the_group_database() {
        let text = std::fs::read_to_string("/etc/group").unwrap();
        let of = |line: &str| {
            let mut fields = line.split(':');
            let gid = fields.nth(2)?.parse::<u32>().ok()?;
            let member = fields.next()?.split(',').find(|member| !member.is_empty())?.to_owned();
            Some((gid, member))
        };
        // A host without any member has nothing to compare.
        for (gid, member) in text.lines().filter_map(of) {
            let Ok(user) = user(&member) else { continue };
            assert!(user.groups(user.gid).unwrap().contains(&gid), "{member} is in {gid}");
        }
    }
}
