//! Loopback ports, a minimal HTTP client, and the server side for the test programs.

use std::{
    collections::HashSet,
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    os::fd::AsRawFd as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The ports to choose from. They are below those that Linux gives to the ends of clients (`ip_local_port_range`), of which
/// one could take a port before its server does.
const PORTS: Range<u16> = 16_384..32_768;

/// The ports that this process has been given.
struct Given {
    ports: HashSet<u16>,
    /// The same for all processes of this user. Each locks the bytes whose numbers are its ports.
    locks: File,
}

impl Given {
    fn none() -> Self {
        let name = format!("hostprobe-test-ports-{}", rustix::process::geteuid().as_raw());
        let locks = File::create(std::env::temp_dir().join(name)).expect("a temporary file");
        Self { ports: HashSet::new(), locks }
    }

    /// Whether a port is given to this process, and was to no living one.
    fn reserve(&mut self, port: u16) -> bool {
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: port.into(),
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the lock is valid, and outlives the call.
        let locked = unsafe { libc::fcntl(self.locks.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0;
        locked && self.ports.insert(port)
    }
}

/// A loopback port without a listener. It is given once as long as this process lives, also by other ones.
///
/// # Panics
/// If the host has none left.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<Given>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_with(Given::none);
    for _ in 0..1000 {
        // Several processes choose at the same time, so none begins with the first.
        let random = RandomState::new().build_hasher().finish() % PORTS.len() as u64;
        let port = PORTS.start + u16::try_from(random).expect("it is below the number of ports");
        if given.reserve(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no loopback port is free");
}

/// Asks `http://127.0.0.1:PORT/PATH`: status and body.
pub fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer.clone()))?;
    Ok((status, body))
}

/// The body that a server sent in chunks.
fn unchunked(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else { break };
        body.push_str(rest.get(..size).unwrap_or_default());
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

/// Reads a request from a connection; the target of its first line, such as `/slow?ms=3`. None if there is none.
pub fn request_target(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let target = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    // The rest of the request is read, because closing a socket with unread bytes resets it.
    lines.find(|line| line.as_ref().map_or(true, String::is_empty))?.ok()?;
    Some(target)
}

/// Answers a request and closes the connection. The client may have gone away; the answer is lost then.
pub fn respond(mut stream: TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes());
}
