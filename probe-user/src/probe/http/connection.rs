//! One request over a connection of the probe's own, with TLS or without.
//!
//! A client's pool, redirects and proxies serve many requests; a probe sends one. The probe takes the request that the
//! client would send, and sends it itself. So it knows when the connection is made, and what the server sends is
//! bounded in bytes, whatever it is: interim responses, headers, chunks, TLS records.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::future::{Either, select};
use hyper::{
    client::conn::http1::Builder,
    ext::on_informational,
    header::{ACCEPT, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Request, Response};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::target::{AGENT, address, peer};
use crate::{
    fact::ProbeFailure,
    probe::{failure::Failure, progress::Waiting, reading::Pace, tcp},
};

/// The most that may come before the body: a TLS handshake, interim responses (`100 Continue`), and headers.
const HEAD_MAX: usize = 64 * 1024;

/// More interim responses than this are no way to an answer.
const INTERIM_MAX: usize = 16;

/// Sends a request, and has its response judged while the connection is there. `body_max` bounds what may come after
/// the headers, in bytes on the wire. `tls` is how to connect to an https URL.
pub(super) async fn ask<T>(
    request: Request,
    tls: Option<Arc<ClientConfig>>,
    body_max: usize,
    waiting: &Waiting,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let url = request.url();
    let address = address(url).unwrap_or_default();
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let peer = peer(url.as_str());
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::new(ProbeFailure::CannotAsk, format!("cannot ask {peer}: {error}"))
    };

    let mut request = hyper::Request::<Body>::try_from(request).map_err(|error| unusable(&error))?;
    *request.uri_mut() = path.parse().map_err(|error| unusable(&error))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(&peer).map_err(|error| unusable(&error))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));

    let left = Left::new(HEAD_MAX);
    let interim = left.clone();
    on_informational(&mut request, move |_| interim.take(HEAD_MAX / INTERIM_MAX));
    let stream = tcp::connect(&address, waiting).await?;
    let stream = Bounded { stream, left: left.clone(), pace: Pace::default() };
    let judge = async |response| {
        left.allow(body_max);
        judge(response).await
    };
    let Some(tls) = tls else { return exchange(stream, request, &peer, waiting, judge).await };
    waiting.set("the TLS handshake");
    let name = ServerName::try_from(host).map_err(|error| unusable(&error))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| Failure::chain(&error, &peer))?;
    exchange(stream, request, &peer, waiting, judge).await
}

async fn exchange<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: hyper::Request<Body>,
    peer: &str,
    waiting: &Waiting,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    waiting.set("the response on an open connection");
    let chain = |error: hyper::Error| Failure::chain(&error, peer);
    let handshake = Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
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

/// How many bytes may still come.
#[derive(Clone)]
struct Left(Arc<AtomicUsize>);

impl Left {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn allow(&self, more: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes what has come.
    fn take(&self, bytes: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// A connection that fails once the server has sent more than it may.
struct Bounded<S> {
    stream: S,
    left: Left,
    pace: Pace,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.0.load(Ordering::Relaxed) == 0 {
            let words = "it sends more than an answer can be, and no end of it";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
        }
        ready!(self.pace.poll_ready(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let length = buffer.filled().len() - before;
        self.left.take(length);
        self.pace.on_read(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
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
