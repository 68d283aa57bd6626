//! A web application's connection to its Redis.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait for an answer of Redis.
const ANSWER: Duration = Duration::from_millis(300);

/// The connection to Redis.
pub(crate) struct Store {
    address: SocketAddr,
    /// Whether it is made again when it is lost.
    again: bool,
    connection: Option<TcpStream>,
}

impl Store {
    pub(crate) fn new(address: SocketAddr, again: bool) -> Self {
        let mut store = Self { address, again, connection: None };
        store.connect();
        store
    }

    fn connect(&mut self) {
        self.connection = TcpStream::connect_timeout(&self.address, ANSWER).ok();
        if let Some(connection) = &self.connection {
            let _ = connection.set_read_timeout(Some(ANSWER));
        }
    }

    pub(crate) fn answers(&mut self) -> bool {
        if self.connection.is_none() && self.again {
            self.connect();
        }
        let Some(connection) = &mut self.connection else { return false };
        let mut answer = [0; 7];
        let asked = connection.write_all(b"PING\r\n").and_then(|()| connection.read_exact(&mut answer));
        if asked.is_err() {
            self.connection = None;
        }
        asked.is_ok() && &answer == b"+PONG\r\n"
    }
}
