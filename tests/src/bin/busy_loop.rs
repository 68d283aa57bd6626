//! Keeps every CPU busy: `busy_loop --threads N`.

use std::{hint, process::ExitCode, thread};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = match arguments.as_slice() {
        [name, number] if name == "--threads" => number.parse::<u32>().ok(),
        _ => None,
    };
    let Some(threads) = threads else {
        eprintln!("usage: busy_loop --threads N");
        return ExitCode::from(2);
    };
    for _ in 1..threads {
        thread::spawn(busy);
    }
    busy()
}

fn busy() -> ! {
    loop {
        hint::spin_loop();
    }
}
