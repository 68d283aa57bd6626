//! A fake of a service that gets alerts: it keeps every request, and answers each with the same JSON, or refuses it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::process::until;

/// A request that it got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Such as `POST /api/chat.update`.
    pub what: String,
    pub body: Value,
    /// When it was read.
    pub at: Instant,
}

/// An HTTP server on a loopback port. It ends with the process.
#[derive(Clone, Debug)]
pub struct FakeService {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Status line and headers of the next answers.
    refusals: Arc<Mutex<VecDeque<String>>>,
}

impl FakeService {
    /// Starts one with this answer.
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn start(answer: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        let service = Self { port, asked: Arc::default(), refusals: Arc::default() };
        let (server, answer) = (service.clone(), answer.to_string());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, answer) = (server.clone(), answer.clone());
                thread::spawn(move || server.serve(stream, &answer));
            }
        });
        service
    }

    /// Has the next request refused, after those that are to be refused already, such as with
    /// `429 Too Many Requests\r\nRetry-After: 2`.
    pub fn refuse_next(&self, status_and_headers: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.push_back(status_and_headers.to_owned());
    }

    /// All requests so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the request with this number, from 0.
    #[track_caller]
    pub fn wait_for(&self, number: usize, within: Duration) -> Asked {
        until(&format!("request {number}"), within, || self.asked().get(number).cloned())
    }

    fn serve(&self, stream: TcpStream, answer: &str) {
        let Ok(mut answers) = stream.try_clone() else { return };
        let mut requests = BufReader::new(stream);
        while let Some(asked) = request(&mut requests) {
            let refusal = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            let status = refusal.as_deref().unwrap_or("200 OK");
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len());
            if answers.write_all(format!("{head}{answer}").as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The next request; None at the end of the connection.
fn request(requests: &mut impl BufRead) -> Option<Asked> {
    let (mut what, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if what.is_empty() {
            what = line.trim_end_matches(" HTTP/1.1").to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    requests.take(length).read_to_end(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Asked { what, body, at: Instant::now() })
}
