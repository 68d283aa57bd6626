//! A client of PostgreSQL that opens connections and keeps them: `client --port N --postgres N`.
//!
//! `/take?n=N` has it hold so many connections as the user `shop` with the application name `orders`, and answers with
//! how many it has; `/health` answers `ok`.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
};

use hostprobe_tests::http::{request_target, respond};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u16>().ok()
    };
    let (Some(port), Some(postgres)) = (value("--port"), value("--postgres")) else {
        eprintln!("usage: client --port N --postgres N");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("client: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    let mut kept = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        let Some(target) = request_target(&stream) else { continue };
        let body = match target.strip_prefix("/take?n=").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => {
                kept.truncate(number);
                let missing = number - kept.len();
                kept.extend((0..missing).map_while(|_| connect(postgres)));
                kept.len().to_string()
            }
            None => "ok".to_owned(),
        };
        respond(stream, "200 OK", &body);
    }
    ExitCode::FAILURE
}

/// A connection that is ready for queries; None if the server refuses it.
fn connect(port: u16) -> Option<TcpStream> {
    let parameters = b"user\0shop\0database\0postgres\0application_name\0orders\0\0";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = u32::try_from(parameters.len() + 8).ok()?;
    // Version 3.0 of the protocol.
    let start = [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes()[..], parameters].concat();
    stream.write_all(&start).ok()?;
    loop {
        let (mut kind, mut length) = ([0; 1], [0; 4]);
        stream.read_exact(&mut kind).ok()?;
        stream.read_exact(&mut length).ok()?;
        let mut rest = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?.checked_sub(4)?];
        stream.read_exact(&mut rest).ok()?;
        match &kind {
            b"E" => return None,
            b"Z" => return Some(stream),
            _ => {}
        }
    }
}
