//! A slow way to NATS.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{HUB, PORT};

/// So many pieces of a connection are under way at once, in each direction.
const UNDER_WAY: usize = 1024;

/// Passes connections to NATS on, with so much delay in each direction. Returns the port on the hub that it listens on, until
/// the process ends. It is to be called on the hub.
///
/// # Panics
/// If no port is free.
pub fn slow(delay: Duration) -> u16 {
    let listener = TcpListener::bind((HUB, 0)).expect("a port of the hub is free");
    let port = listener.local_addr().expect("a listener has an address").port();
    // Threads are in the network namespace of the one that starts them.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect((HUB, PORT)) else { continue };
            let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || pass(client, to_server, delay));
            thread::spawn(move || pass(server, to_client, delay));
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let writes = thread::spawn(move || {
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(pieces);
    let _ = writes.join();
    let _ = from.shutdown(Shutdown::Both);
}
