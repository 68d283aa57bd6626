//! A socket that another process listens on, as a destination.
//!
//! It is connected when there is something to write, and again after the other end went away. Meanwhile the lines wait in
//! the sink. A line that the connection broke off is sent again from its beginning. Of what the kernel had taken when a
//! connection broke, some may be lost: `event.sequence` shows the gap.

use std::{
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    os::{
        fd::AsFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::net::{RecvFlags, recv};

use super::destination::Destination;
use crate::config::EventOutput;

/// How long a connection over TCP may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the other end may take no byte. The lines wait in the sink as well, and the next try is on a new connection.
const WRITE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// Takes a line at a time.
    Datagrams(UnixDatagram),
}

#[derive(Debug)]
pub(super) struct Socket {
    to: EventOutput,
    connection: Option<Connection>,
    /// The line of which the connection has taken a part.
    begun: Vec<u8>,
}

impl Socket {
    pub(super) fn new(to: EventOutput) -> Self {
        Self { to, connection: None, begun: Vec::new() }
    }

    /// The connection. A new one gets the beginning of the line that the former one broke off.
    fn connection(&mut self) -> io::Result<&mut Connection> {
        if self.connection.as_ref().is_some_and(Connection::has_ended) {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut connection = connect(&self.to)?;
            if !self.begun.is_empty() {
                connection.write_all(&self.begun)?;
            }
            self.connection = Some(connection);
        }
        // It was made above.
        self.connection.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Destination for Socket {
    fn name(&self) -> String {
        self.to.to_string()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.connection().and_then(|connection| connection.write(lines));
        match written {
            Ok(written) => {
                let end = lines[..written].iter().rposition(|byte| *byte == b'\n');
                if end.is_some() {
                    self.begun.clear();
                }
                self.begun.extend_from_slice(&lines[end.map_or(0, |end| end + 1)..written]);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.connection = None;
                Err(lasting(error))
            }
        }
    }
}

/// The error of a connection, for which there may be another one. A full one is broken off after [`WRITE`].
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn lasting(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the other end closed it")
        }
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, format!("the other end took no byte for {WRITE:?}"))
        }
        _ => error,
    }
}

impl Connection {
    /// The other end has closed it: what is written now would be lost.
    fn has_ended(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = match self {
            Self::Unix(stream) => recv(stream.as_fd(), &mut byte, flags),
            Self::Tcp(stream) => recv(stream.as_fd(), &mut byte, flags),
            Self::Datagrams(_) => return false,
        };
        matches!(received, Ok((_, 0)))
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(lines),
            Self::Tcp(stream) => stream.write(lines),
            Self::Datagrams(socket) => {
                let end = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
                socket.send(lines[..end].trim_ascii_end())?;
                Ok(end)
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
            // A datagram is sent whole.
            Self::Datagrams(_) => Ok(()),
        }
    }
}

fn connect(to: &EventOutput) -> io::Result<Connection> {
    match to {
        EventOutput::Unix(path) => connect_unix(path),
        EventOutput::Tcp { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, CONNECT) {
                    Ok(stream) => {
                        stream.set_write_timeout(Some(WRITE))?;
                        return Ok(Connection::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        EventOutput::Stdout | EventOutput::File(_) | EventOutput::Journald => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket"))
        }
    }
}

fn connect_unix(path: &Path) -> io::Result<Connection> {
    match UnixStream::connect(path) {
        Ok(stream) => {
            stream.set_write_timeout(Some(WRITE))?;
            Ok(Connection::Unix(stream))
        }
        // It is of datagrams.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(WRITE))?;
            Ok(Connection::Datagrams(socket))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        net::TcpListener,
        os::unix::net::UnixListener,
    };

    use super::*;
    use crate::emit::{destination::QueueLimits, sink::Sink};

    const LONG: Duration = Duration::from_secs(20);

    fn line(number: usize) -> String {
        format!("{{\"number\":{number}}}\n")
    }

    #[test]
    fn lines_wait_for_who_listens_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.sock");
        let sink = Sink::spawn(Socket::new(EventOutput::Unix(path.clone())), QueueLimits::default()).unwrap();
        sink.push(line(1).as_bytes());
        sink.push(line(2).as_bytes());
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next().unwrap().unwrap(), line(1).trim());
        assert_eq!(lines.next().unwrap().unwrap(), line(2).trim());
        assert_eq!(sink.shutdown(LONG), 0);
    }

    #[test]
    fn after_a_break_the_line_under_way_is_sent_again_as_a_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut socket = Socket::new(EventOutput::Tcp { host: "127.0.0.1".to_owned(), port });
        let text = [line(1), line(2)].concat();
        // The second line is cut.
        let cut = line(1).len() + 5;
        assert_eq!(socket.write(&text.as_bytes()[..cut]).unwrap(), cut);
        let (mut first, _) = listener.accept().unwrap();
        let mut got = vec![0; cut];
        first.read_exact(&mut got).unwrap();
        drop(first);
        // That the other end closed it is seen before the next write.
        let written = socket.write(&text.as_bytes()[cut..]).unwrap();
        assert_eq!(written, text.len() - cut);
        let (second, _) = listener.accept().unwrap();
        let again = BufReader::new(second).lines().next().unwrap().unwrap();
        assert_eq!(again, line(2).trim());
    }

    #[test]
    fn a_socket_of_datagrams_gets_a_line_in_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(LONG)).unwrap();
        let sink = Sink::spawn(Socket::new(EventOutput::Unix(path)), QueueLimits::default()).unwrap();
        sink.push(line(1).as_bytes());
        sink.push(line(2).as_bytes());
        let mut buffer = [0; 100];
        for number in [1, 2] {
            let got = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..got], line(number).trim().as_bytes());
        }
        assert_eq!(sink.shutdown(LONG), 0);
    }

    #[test]
    fn nobody_who_listens_costs_lines_that_are_counted() {
        let to = EventOutput::Unix("/nowhere/e.sock".into());
        let sink = Sink::spawn(Socket::new(to), QueueLimits { lines: 2, bytes: 1 << 20 }).unwrap();
        (0..5).for_each(|number| sink.push(line(number).as_bytes()));
        assert!(sink.lost() >= 2);
        assert_eq!(sink.shutdown(Duration::from_millis(50)), 5);
    }
}
