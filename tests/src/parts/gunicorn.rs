//! gunicorn: a small application, and the command that serves it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use super::{START, require};

/// Debian's program.
const PROGRAM: &str = "/usr/bin/gunicorn";

/// `/slow?N` takes N seconds, `/events` has no end, and everything else is answered at once.
const APPLICATION: &str = r#"
import time

def ticks():
    while True:
        yield b"data: tick\n\n"
        time.sleep(0.1)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/slow":
        time.sleep(float(environ["QUERY_STRING"]))
    return ticks() if path == "/events" else [b"ok"]
"#;

/// The command of a gunicorn with two workers that serve one request each at a time. The application and its pid, in
/// `pid`, are in a folder. None where it is not installed.
///
/// # Panics
/// If the application cannot be written.
pub fn gunicorn(folder: &Path, port: u16) -> Option<Vec<String>> {
    if !require("gunicorn", PROGRAM) {
        return None;
    }
    fs::write(folder.join("application.py"), APPLICATION).expect("the application is written");
    let (address, pid) = (format!("127.0.0.1:{port}"), folder.join("pid").display().to_string());
    let folder = folder.display().to_string();
    let options =
        ["--workers", "2", "--bind", &address, "--timeout", "60", "--pid", &pid, "--chdir", &folder];
    let command = [&[PROGRAM], &options[..], &["application:app"]].concat();
    Some(command.into_iter().map(str::to_owned).collect())
}

/// The answer to a request that takes so many seconds.
pub fn slow_request(port: u16, seconds: u32) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START))?;
    write!(stream, "GET /slow?{seconds} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
