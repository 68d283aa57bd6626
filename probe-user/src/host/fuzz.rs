//! The way of the fuzzers to the kernel's answers over netlink.

use std::io;

use super::sockdiag::{connection, exchange, listen_queue, take_messages, unix_end};

/// Reads the sockets in an answer, and returns their number.
pub fn sockets(datagram: &[u8]) -> io::Result<usize> {
    let mut found = 0;
    take_messages(datagram, &mut |message| {
        found += usize::from(listen_queue(message).is_some());
        found += usize::from(connection(message).is_some());
        found += usize::from(exchange(message).is_some());
        found += usize::from(unix_end(message).is_some());
    })?;
    Ok(found)
}
