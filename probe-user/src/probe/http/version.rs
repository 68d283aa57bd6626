//! HTTP/1.1 and HTTP/2: one request over a connection that is there.

use std::{
    error::Error,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::future::{Either, select};
use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
};

use crate::{fact::ProbeFailure, probe::failure::Failure};

/// The most that may come before the body: a TLS handshake, interim responses (`100 Continue`), and headers.
pub(super) const HEAD_MAX: usize = 64 * 1024;

pub(super) async fn http1<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: hyper::Request<Body>,
    peer: &str,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // No error comes from the body, which is read later.
    let chain = |error: hyper::Error| {
        if is_too_long(&error) || error.is_parse_too_large() {
            too_large(peer)
        } else {
            Failure::chain(&error, peer)
        }
    };
    let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(chain)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(chain)?;
        judge(response.map(Body::wrap).into()).await
    };
    match select(pin!(asking), pin!(connection)).await {
        Either::Left((judged, _)) => judged,
        // The request ends with the reason why the connection ended.
        Either::Right((_, asking)) => asking.await,
    }
}

/// The server has sent all that a response may have.
#[derive(Debug, thiserror::Error)]
#[error("it sends more than an answer can be, and no end of it")]
pub(super) struct TooLong;

/// Whether an error comes from [`TooLong`], which its library and its body may each have wrapped.
fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    let is_of_io = |io: &io::Error| io.get_ref().is_some_and(|inner| is_too_long(inner));
    error.is::<TooLong>()
        || error.downcast_ref::<io::Error>().is_some_and(is_of_io)
        || error.source().is_some_and(is_too_long)
}

fn too_large(peer: &str) -> Failure {
    // The library reads so many fields, and has one error for both.
    const FIELDS_MAX: usize = 100;
    let kib = HEAD_MAX / 1024;
    let text = format!(
        "{peer} answers with a head that is larger than {kib} KiB, or has more than {FIELDS_MAX} fields"
    );
    Failure::new(ProbeFailure::Protocol, text)
}

pub(super) async fn http2<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::Request<Body>,
    peer: &str,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let broken = Broken::default();
    let stream = Watched { stream, broken: broken.clone(), peer: peer.to_owned() };
    // What broke the connection says more than the library, which keeps no source of its errors.
    let why = |error: hyper::Error| broken.take().unwrap_or_else(|| Failure::chain(&error, peer));
    let tasks = Tasks::default();
    let mut builder = http2::Builder::new(Spawner(Arc::clone(&tasks.0)));
    builder.max_header_list_size(HEAD_MAX as u32);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(why)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(why)?;
        judge(response.map(Body::wrap).into()).await
    };
    match select(pin!(asking), pin!(connection)).await {
        Either::Left((judged, _)) => judged,
        Either::Right((_, asking)) => asking.await,
    }
}

/// What a connection needs to run beside the request. They end with the run: a server that hangs would keep them.
#[derive(Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[derive(Clone)]
struct Spawner(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

/// Why a connection ended.
#[derive(Clone, Default)]
struct Broken(Arc<Mutex<Option<Failure>>>);

impl Broken {
    fn note(&self, error: &io::Error, peer: &str) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| Failure::chain(error, peer));
    }

    fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream that notes why it ends.
struct Watched<S> {
    stream: S,
    broken: Broken,
    peer: String,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        match &read {
            Err(error) => self.broken.note(error, &self.peer),
            Ok(()) if buffer.filled().len() == before => {
                self.broken.note(&io::ErrorKind::UnexpectedEof.into(), &self.peer);
            }
            Ok(()) => {}
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
