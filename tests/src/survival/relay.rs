//! A receiver of alerts that keeps what it gets, and may hand it on.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use serde_json::Value;

use crate::incident_events::text;

/// An incident and what was said of it: `firing` or `resolved`.
type Told = (String, String);

/// The end of the id of what stands for a storm of incidents.
const STORM: &str = "-i0";

/// An HTTP server on a loopback port. What the other side does not accept counts as not told.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    /// The port that it hands requests on to.
    to: Option<u16>,
    told: Arc<Mutex<Vec<Told>>>,
    /// When it got a summary of a storm.
    storms: Arc<Mutex<Vec<SystemTime>>>,
    /// It takes no message, and answers 503.
    refuses: Arc<AtomicBool>,
}

impl Relay {
    /// Starts one; it ends with the process.
    pub(crate) fn start(to: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        let relay = Self { port, to, told: Arc::default(), storms: Arc::default(), refuses: Arc::default() };
        let server = relay.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                thread::spawn(move || server.serve(&stream));
            }
        });
        relay
    }

    /// The incidents of which this was said, and how often.
    pub(crate) fn incidents(&self, status: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (id, _) in self.told().iter().filter(|(_, said)| said == status) {
            *counts.entry(id.clone()).or_default() += 1;
        }
        counts
    }

    /// The incidents that the receiver takes for open.
    pub(crate) fn firing(&self) -> Vec<String> {
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        last.extend(self.told().iter().cloned());
        last.into_iter().filter(|(_, status)| status == "firing").map(|(id, _)| id).collect()
    }

    /// When it got a summary of a storm of incidents, in order.
    pub(crate) fn storms(&self) -> Vec<SystemTime> {
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it take no message, or take them again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request; its client makes a connection for each.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let (head, body) = request(stream)?;
        let answer = match self.to {
            _ if self.refuses.load(Ordering::SeqCst) => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
            }
            Some(port) => hand_on(port, &head, &body)?,
            None => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        };
        if answer.starts_with(b"HTTP/1.1 200") {
            let told = told(&body);
            if told.iter().any(|(id, _)| id.ends_with(STORM)) {
                self.storms.lock().unwrap_or_else(PoisonError::into_inner).push(SystemTime::now());
            }
            self.told().extend(told);
        }
        let mut stream = stream;
        stream.write_all(&answer).ok()
    }
}

/// What a body says: an object of hostprobe's own form, or a list as Alertmanager takes it.
fn told(body: &[u8]) -> Vec<Told> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(alerts)) => alerts.iter().map(of_alertmanager).collect(),
        Ok(alert) => vec![(text(&alert, "incident.id").to_owned(), text(&alert, "status").to_owned())],
        Err(_) => Vec::new(),
    }
}

fn of_alertmanager(alert: &Value) -> Told {
    let at = |field: &str| alert[field].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let is_over = at("endsAt").is_some_and(|end| end <= jiff::Timestamp::now());
    let id = alert["annotations"]["incident"].as_str().unwrap_or_default().to_owned();
    (id, if is_over { "resolved" } else { "firing" }.to_owned())
}

/// The head and the body of a request.
fn request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        let is_end = line.trim_end().is_empty();
        head.push_str(&line);
        if is_end {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn hand_on(port: u16, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).ok()?;
    server.write_all(body).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    Some(answer)
}
