//! Receivers of alerts that mean the daemon no good.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::Result;

use super::{plan::Plan, servers::serve};
use crate::http::free_port;

/// Between two bytes of a receiver that drips.
const DRIP: Duration = Duration::from_millis(1);

/// What a receiver sends once, and then without end.
const ANSWERS: [(&[u8], &[u8]); 7] = [
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    (b"HTTP/1.1 500 No\r\n\r\n", b"x"),
    (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    (b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08", b"\0"),
    (b"", b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    (b"\x16\x03\x03\x40\x00", b"\x16\x03\x03\x40\x00"),
];

fn flood(mut stream: TcpStream, (head, part): (&[u8], &[u8])) {
    let _ = stream.read(&mut [0; 4096]);
    let part = part.repeat(4096 / part.len());
    let mut alive = stream.write_all(head).is_ok();
    while alive {
        alive = stream.write_all(&part).is_ok();
    }
}

fn drip(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'y'));
    for byte in answer {
        thread::sleep(DRIP);
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
    }
}

pub(super) fn hostile() -> Result<Plan> {
    let silent = serve(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })?;
    let mut urls = vec![format!("http://127.0.0.1:{silent}/"), format!("http://127.0.0.1:{}/", serve(drip)?)];
    for answer in ANSWERS {
        let scheme = if answer.0.first() == Some(&0x16) { "https" } else { "http" };
        urls.push(format!("{scheme}://127.0.0.1:{}/", serve(move |stream| flood(stream, answer))?));
    }
    let alerts: String =
        urls.iter().map(|url| format!("[[alert]]\nwebhook = {url:?}\nmin_severity = \"info\"\n")).collect();
    // Something to alert about.
    let down = format!(
        "[[service]]\nname = \"down\"\n[[service.probe]]\ntcp = \"127.0.0.1:{}\"\ninterval = \"200ms\"\nfailures = 1\n",
        free_port()
    );
    Ok(Plan { config: alerts + &down, ..Plan::default() })
}
