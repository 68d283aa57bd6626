//! Users and groups by the host's name service. It may ask another host, so a caller that must not wait needs a thread.

use std::{
    ffi::{CStr, CString},
    io, mem, ptr,
};

/// The room for an entry at first, and at most. A group with thousands of members needs more than the first.
const ROOM: usize = 1024;
const MOST_ROOM: usize = 1 << 20;

/// The name of a user; None if the host does not know it.
pub fn user_name(id: u32) -> Option<String> {
    let found = entry(|buffer: &mut [libc::c_char], found| {
        // SAFETY: a struct of pointers and numbers, which the call fills.
        let mut user: libc::passwd = unsafe { mem::zeroed() };
        let mut at: *mut libc::passwd = ptr::null_mut();
        // SAFETY: the call writes to the entry and the buffer, whose length it gets.
        let error =
            unsafe { libc::getpwuid_r(id, &raw mut user, buffer.as_mut_ptr(), buffer.len(), &raw mut at) };
        if error == 0 && !at.is_null() {
            // SAFETY: the call has set the name to a string in the buffer, which still lives.
            *found = Some(unsafe { CStr::from_ptr(user.pw_name) }.to_string_lossy().into_owned());
        }
        error
    });
    found.ok().flatten()
}

/// The id of a group.
pub fn group_id(name: &str) -> io::Result<u32> {
    let c_name = CString::new(name)?;
    let found = entry(|buffer: &mut [libc::c_char], found| {
        // SAFETY: a struct of pointers and numbers, which the call fills.
        let mut group: libc::group = unsafe { mem::zeroed() };
        let mut at: *mut libc::group = ptr::null_mut();
        // SAFETY: the call writes to the entry and the buffer, whose length it gets.
        let error = unsafe {
            libc::getgrnam_r(c_name.as_ptr(), &raw mut group, buffer.as_mut_ptr(), buffer.len(), &raw mut at)
        };
        if error == 0 && !at.is_null() {
            *found = Some(group.gr_gid);
        }
        error
    });
    found?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such group"))
}

/// Calls with more and more room, until it is enough. The call returns an error number, or 0.
fn entry<T>(call: impl Fn(&mut [libc::c_char], &mut Option<T>) -> i32) -> io::Result<Option<T>> {
    let mut buffer = vec![0; ROOM];
    loop {
        let mut found = None;
        match call(&mut buffer, &mut found) {
            0 => return Ok(found),
            libc::ERANGE if buffer.len() < MOST_ROOM => buffer.resize(2 * buffer.len(), 0),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_what_does_not_exist_is_not() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(3_999_999_999), None);
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("no-such-group").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
