//! A receiver of alerts: keeps every body that is posted to it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::Value;

use crate::incident_events::text;

/// An HTTP server on a loopback port that answers every request with 200 and keeps what was posted.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub port: u16,
    posted: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    /// Starts one; it ends with the process.
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        let receiver = Self { port, posted: Arc::default() };
        let server = receiver.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        receiver
    }

    /// Its part of a configuration.
    pub fn config(&self) -> String {
        format!("[[alert]]\nwebhook = \"http://127.0.0.1:{}/alert\"\nformat = \"json\"\n", self.port)
    }

    /// The incidents with a firing alert, in order: service and verdict.
    pub fn firing(&self) -> Vec<(String, String)> {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let firing = posted.iter().filter(|alert| text(alert, "status") == "firing");
        firing
            .map(|alert| (text(alert, "service.name").to_owned(), text(alert, "incident.verdict").to_owned()))
            .collect()
    }

    /// All that was posted, in order.
    pub fn posted(&self) -> Vec<Value> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers the requests of one connection until its end.
    fn serve(&self, stream: TcpStream) {
        let Ok(mut answers) = stream.try_clone() else { return };
        let mut requests = BufReader::new(stream);
        while let Some(body) = body(&mut requests) {
            if let Ok(alert) = serde_json::from_slice(&body) {
                self.posted.lock().unwrap_or_else(PoisonError::into_inner).push(alert);
            }
            if answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

/// The body of the next request; None at the end of the connection.
fn body(requests: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    requests.read_exact(&mut body).ok()?;
    Some(body)
}
