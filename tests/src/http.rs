//! Loopback ports, a minimal HTTP client, and the server side for the test programs.

use std::{
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The ports to choose from. They are below those that Linux gives to the ends of clients (`ip_local_port_range`), of which
/// one could take a port before its server does.
const PORTS: Range<u16> = 16_384..32_768;

/// So many of them are a process's own at a time.
const BLOCK: u16 = 128;

/// The ports that are this process's own until it ends: another one could choose those that are not bound yet.
#[derive(Debug)]
struct OwnPorts {
    left: Vec<u16>,
    /// A file of each block.
    locks: Vec<File>,
}

impl OwnPorts {
    /// Takes a block that no process has.
    fn take_block(&mut self) {
        let folder = std::env::temp_dir().join("hostprobe-test-ports");
        fs::create_dir_all(&folder).expect("there is a folder for temporary files");
        let blocks = PORTS.len() / usize::from(BLOCK);
        let first = random(blocks);
        for block in (0..blocks).map(|nth| (first + nth) % blocks) {
            let path = folder.join(block.to_string());
            let Ok(lock) = File::open(&path).or_else(|_| File::create(&path)) else { continue };
            if lock.try_lock().is_ok() {
                let start = PORTS.start + u16::try_from(block).expect("there are few") * BLOCK;
                self.left.extend(start..start + BLOCK);
                self.locks.push(lock);
                return;
            }
        }
        panic!("no loopback port is free");
    }
}

/// A random number below this one.
fn random(end: usize) -> usize {
    let random = RandomState::new().build_hasher().finish() % end as u64;
    usize::try_from(random).expect("it is below a number of this type")
}

/// A loopback port without a listener. No process gets a port twice, nor one of another process that runs.
///
/// # Panics
/// If the host has none left.
pub fn free_port() -> u16 {
    static OWN: Mutex<OwnPorts> = Mutex::new(OwnPorts { left: Vec::new(), locks: Vec::new() });
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if own.left.is_empty() {
            own.take_block();
        }
        let at = random(own.left.len());
        let port = own.left.swap_remove(at);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
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
