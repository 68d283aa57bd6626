//! Loopback ports, a minimal HTTP client, and the server side for the test programs.

use std::{
    collections::HashSet,
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    os::fd::AsRawFd as _,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// The ports to choose from. They are below those that Linux gives to the ends of clients (`ip_local_port_range`), of which
/// one could take a port before its server does.
const PORTS: Range<u16> = 16_384..32_768;

/// A loopback port without a listener. One process gets no port twice, and no other one of the tests gets it while that runs:
/// a test may count on a port that nobody serves.
///
/// # Panics
/// If the host has none left.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        // Several processes choose at the same time, so none begins with the first.
        let random = RandomState::new().build_hasher().finish() % PORTS.len() as u64;
        let port = PORTS.start + u16::try_from(random).expect("it is below the number of ports");
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() && claim(port) {
            given.insert(port);
            return port;
        }
    }
    panic!("no loopback port is free");
}

/// Locks the byte of a file that stands for a port, until this process ends. False if another one has done so. Where the
/// file cannot be opened, each process chooses for itself.
fn claim(port: u16) -> bool {
    static CLAIMS: OnceLock<Option<File>> = OnceLock::new();
    let open = || {
        let path = std::env::temp_dir().join("hostprobe-test-ports");
        File::options().create(true).truncate(false).write(true).open(path).ok()
    };
    let Some(claims) = CLAIMS.get_or_init(open) else { return true };
    // SAFETY: all zeros are valid for this structure of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = port.into();
    lock.l_len = 1;
    // SAFETY: the lock outlives the call.
    unsafe { libc::fcntl(claims.as_raw_fd(), libc::F_SETLK, &raw const lock) == 0 }
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
