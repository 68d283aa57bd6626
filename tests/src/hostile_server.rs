//! Servers that answer without an end, or announce more than a client can hold.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// What such a server answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// PostgreSQL's request for a password, of the largest length there is, and its bytes for as long as they are read.
    HugeMessage,
    /// `100 Continue` again and again.
    EndlessHead,
    EndlessBody,
}

impl Answer {
    /// Answers until the client has gone.
    pub fn send(self, mut stream: TcpStream) {
        let (head, rest): (&[u8], &[u8]) = match self {
            Self::HugeMessage => (b"R\x7f\xff\xff\xff", &[0; 4096]),
            Self::EndlessHead => (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            Self::EndlessBody => (b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]),
        };
        if stream.write_all(head).is_ok() {
            while stream.write_all(rest).is_ok() {}
        }
    }

    /// Serves it on a loopback port, until this process ends.
    pub fn serve(self) -> io::Result<u16> {
        serve(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            self.send(stream);
        })
    }
}

/// A port that leads to a good server until it is made hostile.
#[derive(Debug)]
pub struct Relay {
    pub port: u16,
    hostile: Arc<AtomicBool>,
}

impl Relay {
    /// Leads to this loopback port.
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn to(server: u16, answer: Answer) -> Self {
        let hostile = Arc::new(AtomicBool::new(false));
        let is_hostile = Arc::clone(&hostile);
        let port = serve(move |mut stream| {
            if is_hostile.load(Ordering::SeqCst) {
                let _ = stream.read(&mut [0; 1024]);
                answer.send(stream);
            } else {
                let _ = pass_on(&stream, server);
            }
        });
        Self { port: port.expect("a loopback port is free"), hostile }
    }

    /// Whether new connections get the answer in place of the server.
    pub fn set_hostile(&self, hostile: bool) {
        self.hostile.store(hostile, Ordering::SeqCst);
    }
}

/// Lets a client and a server talk to each other until both have ended.
fn pass_on(client: &TcpStream, port: u16) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(&server, client));
        copy(client, &server);
    });
    Ok(())
}

/// A server on a port of its own that answers each client on a thread.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    Ok(port)
}
