//! The protocol of browser drivers, WebDriver: JSON over HTTP, one request a connection.
//!
//! A client library of it brings some ten crates, and features of shared ones that all others would be built with again.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

/// Longer than any page or script here takes.
const LONGEST: Duration = Duration::from_secs(120);

/// A session of a driver on a loopback port.
pub struct Session {
    port: u16,
    path: String,
}

impl Session {
    /// Starts a browser with these capabilities.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(port: u16, capabilities: &Value) -> Self {
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let started = request(port, "POST", "/session", &wanted).unwrap_or_else(|error| panic!("{error}"));
        let id = started["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {started}"));
        Self { port, path: format!("/session/{id}") }
    }

    /// Gives a command, such as `POST /url`. Fails with what the driver says.
    pub fn command(&self, method: &str, path: &str, parameters: &Value) -> Result<Value, String> {
        request(self.port, method, &format!("{}{path}", self.path), parameters)
    }
}

/// What the driver answers to a request. Its errors are answers too, with a `message`.
fn request(port: u16, method: &str, path: &str, parameters: &Value) -> Result<Value, String> {
    let body = if method == "POST" { parameters.to_string() } else { String::new() };
    let answer = exchange(port, method, path, &body).map_err(|error| format!("{method} {path}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: {answer}"))?;
    let mut answer: Value = serde_json::from_str(body).map_err(|error| format!("{path}: {error}: {body}"))?;
    let value = answer["value"].take();
    if head.split(' ').nth(1) == Some("200") { Ok(value) } else { Err(format!("{path}: {value:#}")) }
}

fn exchange(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LONGEST))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    // The driver leaves the connection open.
    let (mut lines, mut head, mut length) = (BufReader::new(stream), String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        if lines.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = head[begin..].to_ascii_lowercase();
        length = line.strip_prefix("content-length:").and_then(|it| it.trim().parse().ok()).unwrap_or(length);
    }
    let mut body = String::new();
    lines.take(length).read_to_string(&mut body)?;
    Ok(head + &body)
}
