//! Requests to an engine's API socket, bounded in bytes and time.
//!
//! Whoever may open the socket is root on the host, and its answers are foreign all the same: a container chooses its
//! labels, names and output. A request has a connection of its own, so that an answer that never ends costs one
//! connection until its time is over.

use std::{
    future::poll_fn,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::AbortHandle, time::timeout};

use super::error::EngineError;

/// The head of an answer. Engines send some ten short fields.
const HEAD_MAX: usize = 16 << 10;

/// The description of a container has 10 to 30 KiB, and grows with its mounts and environment.
const ANSWER_MAX: usize = 512 << 10;

/// A line of the stream of events has 1 KiB, and grows with the labels of its container.
const LINE_MAX: usize = 256 << 10;

/// How long an engine may take for an answer. Podman locks a container while it stops.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// An engine's API.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    path: PathBuf,
}

/// The body of an answer. Its connection ends with it.
pub(super) struct Answer {
    /// The header of that name. The head of an answer is bounded.
    server: String,
    body: Incoming,
    _connection: Connection,
}

/// The task that reads and writes a connection.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Socket {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads an object. The path has no characters that need an escape.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let bytes = self.in_time(PATIENCE, self.bytes(Method::GET, path, ANSWER_MAX)).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.wrong(error.to_string()))
    }

    /// The name and version of the server that answers: the first word of its header `Server`, which Docker and Podman
    /// send (`Docker/20.10.24`, `Libpod/4.3.1`). Empty without one.
    pub(super) async fn product(&self, path: &str) -> Result<String, EngineError> {
        let answer = self.in_time(PATIENCE, self.answer(Method::GET, path)).await?;
        let product = answer.server.split_whitespace().next().unwrap_or_default();
        Ok(product.to_owned())
    }

    /// Reads at most so many bytes, and no longer than [`PATIENCE`]. A longer answer is cut.
    pub(super) async fn first_bytes(&self, path: &str, most: usize) -> Result<Vec<u8>, EngineError> {
        let read = async {
            let mut answer = self.answer(Method::GET, path).await?;
            let mut bytes = Vec::new();
            while let Some(part) = answer.part().await.map_err(|error| self.broken(error))? {
                bytes.extend_from_slice(&part);
                if bytes.len() >= most {
                    bytes.truncate(most);
                    break;
                }
            }
            Ok(bytes)
        };
        self.in_time(PATIENCE, read).await
    }

    /// Has the engine do something, for at most `patience`.
    pub(super) async fn post(&self, path: &str, patience: Duration) -> Result<(), EngineError> {
        self.in_time(patience, self.bytes(Method::POST, path, ANSWER_MAX)).await.map(drop)
    }

    /// Opens a stream of lines.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, EngineError> {
        let answer = self.in_time(PATIENCE, self.answer(Method::GET, path)).await?;
        Ok(Lines { answer, buffer: Vec::new() })
    }

    async fn in_time<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let late = || EngineError::Late { socket: self.path.clone(), after: patience };
        timeout(patience, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn bytes(&self, method: Method, path: &str, most: usize) -> Result<Vec<u8>, EngineError> {
        let mut answer = self.answer(method, path).await?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.part().await.map_err(|error| self.broken(error))? {
            if bytes.len() + part.len() > most {
                return Err(self.wrong(format!("an answer of more than {} KiB", most >> 10)));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// The head of the answer has come, and it is a success.
    async fn answer(&self, method: Method, path: &str) -> Result<Answer, EngineError> {
        let unreachable = |source| EngineError::Unreachable { socket: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(unreachable)?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        let task = tokio::spawn(async move {
            // The request ends with the reason why the connection ended.
            let _ = connection.await;
        });
        let connection = Connection(task.abort_handle());
        // The engines answer by any name, and want one.
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(String::new()).map_err(|error| self.wrong(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        self.successful(response, connection).await
    }

    async fn successful(
        &self,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<Answer, EngineError> {
        let status = response.status();
        let server = response.headers().get("server").and_then(|server| server.to_str().ok());
        let server = server.unwrap_or_default().to_owned();
        let mut answer = Answer { server, body: response.into_body(), _connection: connection };
        // "Not modified" answers the start of what runs, and the stop of what does not.
        if status.is_success() || status.as_u16() == 304 {
            return Ok(answer);
        }
        let first = timeout(PATIENCE, answer.part()).await.ok().and_then(Result::ok).flatten();
        let text = first.map(|part| message(&part)).unwrap_or_default();
        Err(match status.as_u16() {
            404 => EngineError::NoSuchContainer,
            status => EngineError::Refused { status, message: text },
        })
    }

    fn wrong(&self, why: String) -> EngineError {
        EngineError::Answer { socket: self.path.clone(), why }
    }

    fn broken(&self, source: hyper::Error) -> EngineError {
        EngineError::Broken { socket: self.path.clone(), source }
    }
}

/// The engine's words in the answer that refuses something: `{"message":"…"}`.
fn message(bytes: &[u8]) -> String {
    const MESSAGE_MAX: usize = 512;
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let written = bytes.get(..bytes.len().min(64 << 10)).unwrap_or_default();
    let message = serde_json::from_slice::<Message>(written).map(|it| it.message).unwrap_or_default();
    super::model::bounded(&message, MESSAGE_MAX)
}

impl Answer {
    /// The next part of the body; None at its end.
    async fn part(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame.transpose()? {
                None => return Ok(None),
                // Trailers say nothing.
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// A stream of lines that does not end.
pub(super) struct Lines {
    answer: Answer,
    buffer: Vec<u8>,
}

/// Why a stream of lines has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinesError {
    #[error("it has ended the stream of events")]
    End,
    #[error("a line of more than {} KiB", LINE_MAX >> 10)]
    TooLong,
    #[error("the stream of events: {0}")]
    Broken(#[from] hyper::Error),
}

impl Lines {
    /// The next line. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, LinesError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(line);
            }
            if self.buffer.len() > LINE_MAX {
                return Err(LinesError::TooLong);
            }
            let part = self.answer.part().await?.ok_or(LinesError::End)?;
            self.buffer.extend_from_slice(&part);
        }
    }
}
