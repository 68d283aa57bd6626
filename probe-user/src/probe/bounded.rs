//! A connection over which a server can make a probe read only so much.
//!
//! The timeout bounds a run's time. The budget here bounds its memory and its CPU time, whatever the server sends:
//! endless rows, notices or packets, one message of 2 GiB, or single bytes as fast as they can be written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use super::reading::Pace;

/// The usual budget. The longest answer to a probe is a database's list of its connections, some 100 KiB long.
pub(super) const BUDGET: usize = 1 << 20;

/// A read wakes a task, however few bytes it brings; that costs as much CPU time as some hundred bytes do.
const READ_COST: usize = 256;

/// The cost of a read after which the probe rests: a server that drips ends within a few seconds.
const DRIP_COST: usize = 8192;

/// A socket, and the number of bytes that may still be read from it.
#[derive(Debug)]
pub(super) struct Bounded {
    socket: Socket,
    left: usize,
    pace: Pace,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// What it encrypts has a budget of its own, below.
    Tls(Box<TlsStream<Bounded>>),
}

/// The server has sent more than a probe reads.
#[derive(Debug, thiserror::Error)]
#[error("its answer is longer than a probe reads")]
pub(super) struct TooLong;

impl Bounded {
    pub(super) fn new(socket: impl Into<Socket>) -> Self {
        Self { socket: socket.into(), left: BUDGET, pace: Pace::default() }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TlsStream<Bounded>> for Socket {
    fn from(stream: TlsStream<Bounded>) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TooLong)));
        }
        ready!(self.pace.poll_ready(context));
        let before = buffer.filled().len();
        let read = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            // A read may go beyond the budget by the length of its buffer, which its caller bounds.
            let length = buffer.filled().len() - before;
            let cost = if self.pace.on_read(length) { DRIP_COST } else { READ_COST };
            self.left = self.left.saturating_sub(length.saturating_add(cost));
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The number of bytes that are read from a peer that writes `part` again and again, and the error that ends it.
    async fn read_from(part: &[u8]) -> (usize, io::Error) {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let mut bounded = Bounded::new(socket);
        let mut buffer = vec![0; 8192];
        let mut length = 0;
        loop {
            peer.write_all(part).await.unwrap();
            match bounded.read(&mut buffer).await {
                Ok(read) => length += read,
                Err(error) => return (length, error),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_bounds_bytes_and_single_bytes_alike() {
        let (length, error) = read_from(&[0; 4096]).await;
        assert!((BUDGET / 2..=BUDGET + 8192).contains(&length), "{length}");
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TooLong>()), "{error}");
        let (reads, _) = read_from(&[0]).await;
        assert!(reads <= BUDGET / READ_COST, "{reads} reads");
    }
}
