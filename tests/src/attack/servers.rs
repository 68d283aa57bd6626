//! Servers that never end an answer, or never get to its end.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::Result;

use super::plan::Plan;

/// Between two bytes of a server that drips.
const DRIP: Duration = Duration::from_millis(1);

/// About as much of a part as is sent at once.
const PORTION: usize = 4096;

/// What the probes of [`of`] send as their password, and a server repeats.
const PASSWORD: &str = "Zx8!password";

/// A server: it gives these answers, the first one unasked if it is a MySQL server, and then copies of a part.
struct Server {
    kind: &'static str,
    exchange: Vec<Vec<u8>>,
    part: Vec<u8>,
}

fn server(kind: &'static str, exchange: &[&[u8]], part: &[u8]) -> Server {
    Server { kind, exchange: exchange.iter().map(|answer| answer.to_vec()).collect(), part: part.to_vec() }
}

/// Let in, the process 7 and its key, ready.
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\0Z\0\0\0\x05I";

const NOTICE: &[u8] = b"N\0\0\0\x15SNOTE\0C00000\0Mm\0\0";

/// A column named `n`.
const COLUMN: &[u8] = b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\0\0\0\0\0\0";

fn postgres() -> Vec<Server> {
    let server = |exchange: &[&[u8]], part: &[u8]| server("postgres", exchange, part);
    let error = [&b"E\0\x07\0\0SFATAL\0C53300\0M"[..], &[b'x'; 0x6_ff00]].concat();
    vec![
        server(&[b"R\x7f\xff\xff\xff"], b"x"),
        server(&[b"E\x7f\xff\xff\xff"], b"x"),
        server(&[b""], NOTICE),
        server(&[b"R\0\0\0\x08\0\0\0\0"], b"S\0\0\0\x08a\0b\0"),
        server(&[LET_IN, COLUMN], b"D\0\0\0\x0b\0\x01\0\0\0\x011"),
        // An error of 448 KB.
        server(&[&error], b"\0"),
    ]
}

/// A greeting of MySQL 8 with `mysql_native_password`.
const GREETING: &[u8] =
    b"\x4a\0\0\0\x0a8.0.40\0\x01\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\x0f\0\x15\0\0\0\0\0\0\0\0\0\0\
    ijklmnopqrst\0mysql_native_password\0";

const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";

fn mysql() -> Vec<Server> {
    let server = |exchange: &[&[u8]], part: &[u8]| server("mysql", exchange, part);
    let result = b"\x01\0\0\x01\x01\x04\0\0\x02\x03def\x05\0\0\x03\xfe\0\0\x02\0";
    vec![
        server(&[b"\xff\xff\xff\0\x0a"], b"x"),
        server(&[GREETING], b"\x02\0\0\x02\x01\x03"),
        server(&[GREETING], b"\x1b\0\0\x02\xfemysql_native_password\0abc\0"),
        // Columns, and rows of one.
        server(&[GREETING, OK, b"\x01\0\0\x01\x10"], b"\x04\0\0\x02\x03def"),
        server(&[GREETING, OK, result], b"\x02\0\0\x04\x011"),
        // An error of 64 KB.
        server(&[&[&b"\xfa\xff\0\0\xff\x10\x04#08004"[..], &[b'x'; 0xffff]].concat()], b"x"),
    ]
}

fn redis() -> Vec<Server> {
    let server = |exchange: &[&[u8]], part: &[u8]| server("redis", exchange, part);
    let repeated =
        format!("-ERR \u{1b}[2J\u{7}{}\r\n", format!("{PASSWORD} --token {PASSWORD}").repeat(13_000));
    vec![
        server(&[b""], b"$2147483647\r\n"),
        server(&[b""], b"$9223372036854775807\r\n"),
        server(&[b""], b"*1\r\n"),
        server(&[b""], b"+"),
        server(&[b"+OK\r\n", b"+PONG\r\n"], b"used_memory:1\r\n"),
        server(&[b""], repeated.as_bytes()),
    ]
}

fn http() -> Vec<Server> {
    let server = |exchange: &[&[u8]], part: &[u8]| server("http", exchange, part);
    let head = b"HTTP/1.1 200 OK\r\n";
    let chunked = [head, &b"Transfer-Encoding: chunked\r\n\r\n"[..]].concat();
    vec![
        server(&[b""], b"HTTP/1.1 100 Continue\r\n\r\n"),
        server(&[b""], b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        server(&[head], b"X: y\r\n"),
        server(&[b"HTTP/1.1 200 OK\r\nX: "], b"y"),
        server(&[&[head, &b"\r\n"[..]].concat()], b"x"),
        server(&[&[head, &b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08"[..]].concat()], b"\0"),
        server(&[&chunked], b"1\r\nx\r\n"),
        server(&[&[&chunked, &b"ffffffffffffffff\r\n"[..]].concat()], b"x"),
        server(&[&[&chunked, &b"1;"[..]].concat()], b"extension"),
        server(&[&[&chunked, &b"0\r\n"[..]].concat()], b"X: y\r\n"),
        server(&[b""], b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        // TLS: a handshake record of 16 KB without end, warnings, and a ServerHello of 16 MB.
        Server { kind: "https", ..server(&[b""], b"\x16\x03\x03\x40\x00") },
        Server { kind: "https", ..server(&[b""], b"\x15\x03\x03\0\x02\x01\0") },
        Server { kind: "https", ..server(&[b"\x16\x03\x03\x40\x00\x02\xff\xff\xff"], b"\0") },
    ]
}

impl Server {
    /// Serves, and returns a service in a configuration that is probed there.
    fn start(self, name: &str, pause: Option<Duration>) -> Result<String> {
        let Self { kind, exchange, part } = self;
        let speaks_first = kind == "mysql";
        let port = serve(move |stream| answer(stream, &exchange, &part, speaks_first, pause))?;
        let address = match kind {
            "postgres" => {
                format!("postgres = \"postgres://probe:{PASSWORD}@127.0.0.1:{port}/x?sslmode=disable\"")
            }
            "mysql" => format!("mysql = \"mysql://probe:{PASSWORD}@127.0.0.1:{port}/x\""),
            "redis" => format!("redis = \"redis://:{PASSWORD}@127.0.0.1:{port}\""),
            scheme => {
                format!("http = \"{scheme}://127.0.0.1:{port}/\"\nexpect = {{ body_contains = \"never\" }}")
            }
        };
        Ok(format!(
            "[[service]]\nname = {name:?}\n[[service.probe]]\n{address}\ninterval = \"200ms\"\ntimeout = \"1s\"\n"
        ))
    }
}

fn answer(
    mut stream: TcpStream,
    exchange: &[Vec<u8>],
    part: &[u8],
    speaks_first: bool,
    pause: Option<Duration>,
) {
    for (number, words) in exchange.iter().enumerate() {
        if number > 0 || !speaks_first {
            let _ = stream.read(&mut [0; 4096]);
        }
        if !send(&mut stream, words, pause) {
            return;
        }
    }
    let part = if pause.is_some() { part.to_vec() } else { part.repeat(PORTION.div_ceil(part.len())) };
    while send(&mut stream, &part, pause) {}
}

/// Sends at once, or byte by byte; false if the client is gone.
fn send(stream: &mut TcpStream, bytes: &[u8], pause: Option<Duration>) -> bool {
    let Some(pause) = pause else { return stream.write_all(bytes).is_ok() };
    bytes.iter().all(|byte| {
        thread::sleep(pause);
        stream.write_all(&[*byte]).is_ok()
    })
}

/// A server on a port of its own that answers each client on a thread. It ends with the process.
pub(super) fn serve(answer: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                // Without a delay of Nagle's, and not for ever where the client only connects.
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(super::plan::LONG));
                answer(stream);
            });
        }
    });
    Ok(port)
}

fn started(servers: Vec<Server>, pause: Option<Duration>) -> Result<String> {
    let name = |number: usize, server: &Server| format!("{}-{number}", server.kind);
    let services = servers.into_iter().enumerate().map(|(number, server)| {
        let name = name(number, &server);
        server.start(&name, pause)
    });
    services.collect()
}

pub(super) fn of(kind: &str) -> Result<Plan> {
    let servers = match kind {
        "postgres" => postgres(),
        "mysql" => mysql(),
        "redis" => redis(),
        _ => http(),
    };
    Ok(Plan { config: started(servers, None)?, ..Plan::default() })
}

/// The most servers of a kind that drip: each costs a wake-up a byte, and a small machine has to serve them too.
const DRIPPING: usize = 3;

pub(super) fn dripping() -> Result<Plan> {
    let few = |servers: Vec<Server>| servers.into_iter().rev().take(DRIPPING);
    let servers = [postgres(), mysql(), redis(), http()].into_iter().flat_map(few).collect();
    Ok(Plan { config: started(servers, Some(DRIP))?, ..Plan::default() })
}
