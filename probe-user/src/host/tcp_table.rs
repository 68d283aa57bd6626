//! The tables `tcp` and `tcp6` below a `net` folder of `/proc`, row by row. Those of UDP have the same form.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    str,
};

use super::{ReadError, process::vanished};
use crate::fact::TcpState;

/// A row, of which only the state is parsed at once: a busy host has hundreds of thousands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) state: TcpState,
    local: &'a str,
    remote: &'a str,
    /// What follows the state.
    rest: &'a str,
}

/// The queues of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queues {
    pub(super) sending: u32,
    pub(super) received: u32,
    pub(super) retransmits: u32,
}

/// The tables of a protocol: of IPv4, and of IPv6.
pub(super) const TCP: [&str; 2] = ["tcp", "tcp6"];
pub(super) const UDP: [&str; 2] = ["udp", "udp6"];

/// Gives each row of the tables to `on_row`.
pub(super) fn read(net: &Path, tables: [&str; 2], mut on_row: impl FnMut(Row<'_>)) -> Result<(), ReadError> {
    for name in tables {
        let path = net.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // A kernel without IPv6 has no such table.
            Err(error) if name == tables[1] && vanished(&error) => continue,
            Err(source) => return Err(ReadError { path, source }),
        };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(ReadError::at(&path))? > 0 {
            if let Some(row) = str::from_utf8(&line).ok().and_then(Row::of) {
                on_row(row);
            }
            line.clear();
        }
    }
    Ok(())
}

impl<'a> Row<'a> {
    /// None for the heading.
    fn of(line: &'a str) -> Option<Self> {
        let (_, line) = word(line)?;
        let (local, line) = word(line)?;
        let (remote, line) = word(line)?;
        let (state, rest) = word(line)?;
        let state = TcpState::from_number(u8::from_str_radix(state, 16).ok()?)?;
        Some(Self { state, local, remote, rest })
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        end(self.local)
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        end(self.remote)
    }

    pub(super) fn queues(&self) -> Option<Queues> {
        let number = |hex: &str| u32::from_str_radix(hex, 16).ok();
        let mut fields = self.rest.split_ascii_whitespace();
        let (sending, received) = fields.next()?.split_once(':')?;
        let retransmits = number(fields.nth(1)?)?;
        Some(Queues { sending: number(sending)?, received: number(received)?, retransmits })
    }

    /// 0 if no process holds the socket.
    pub(super) fn inode(&self) -> Option<u64> {
        self.rest.split_ascii_whitespace().nth(5)?.parse().ok()
    }
}

/// The first word of a text, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = text.find(|char: char| char.is_ascii_whitespace()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// An address and its port, as they are printed; a mapped IPv4 address stays one.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    Some(SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// An address as the kernel prints it: each four bytes as one number of the machine's byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}
