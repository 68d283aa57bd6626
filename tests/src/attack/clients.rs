//! Clients of the page and of the control socket that mean the daemon no good.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::plan::{Held, Plan, Repeated, Scene};

const HALF_SENT: usize = 1500;

/// Clients that ask, as many as are let in at a time.
const ASKING: usize = 32;

const MUTE: usize = 64;

/// How long a client waits for the other side, which may have closed the connection.
const PATIENCE: Duration = Duration::from_millis(200);

fn connect(page: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], page)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(super) fn half_sent(scene: &Scene) -> Result<Plan> {
    let page = scene.page;
    let open = move || -> io::Result<TcpStream> {
        let mut stream = connect(page)?;
        // The connection may have been closed for the next one already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
        Ok(stream)
    };
    Ok(Plan::begin(move |_| {
        let mut streams: VecDeque<TcpStream> = (0..HALF_SENT).filter_map(|_| open().ok()).collect();
        ensure!(streams.len() > HALF_SENT / 2, "only {} connections were made", streams.len());
        let renewed = Repeated::start(move || {
            streams.pop_front();
            streams.extend(open());
        });
        Ok(vec![Box::new(renewed)])
    }))
}

/// A client that does something on one connection until that fails, then on the next one.
fn insistent(
    connect: impl Fn() -> io::Result<TcpStream> + Send + 'static,
    request: &'static [u8],
) -> Repeated {
    let mut connection = None;
    Repeated::start(move || {
        if connection.is_none() {
            connection = connect().ok();
        }
        let Some(stream) = &mut connection else { return std::thread::sleep(PATIENCE) };
        let answered = stream.write_all(request).and_then(|()| stream.read(&mut [0; 1 << 16]));
        if !answered.is_ok_and(|read| read > 0) {
            connection = None;
        }
    })
}

pub(super) fn requests(scene: &Scene) -> Result<Plan> {
    let page = scene.page;
    Ok(Plan::begin(move |_| {
        let client = |number: usize| -> Box<dyn std::any::Any> {
            let request: &[u8] = if number.is_multiple_of(2) {
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            } else {
                b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
            };
            Box::new(insistent(move || connect(page), request))
        };
        Ok((0..ASKING).map(client).collect())
    }))
}

/// Writes a request again and again, until there is no room for more.
fn fill(mut stream: impl Write, request: &[u8]) {
    for _ in 0..10_000 {
        if stream.write_all(request).is_err() {
            return;
        }
    }
}

pub(super) fn mute(scene: &Scene) -> Result<Plan> {
    let page = scene.page;
    Ok(Plan::begin(move |daemon| mute_clients(page, &daemon.socket())))
}

pub(super) fn mute_clients(page: u16, socket: &Path) -> Result<Held> {
    let mut held: Held = Vec::new();
    for _ in 0..MUTE {
        let of_page = connect(page)?;
        fill(&of_page, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let of_control = UnixStream::connect(socket)?;
        of_control.set_nonblocking(true)?;
        fill(&of_control, b"{\"command\":\"status\"}\n");
        held.push(Box::new((of_page, of_control)));
    }
    Ok(held)
}
