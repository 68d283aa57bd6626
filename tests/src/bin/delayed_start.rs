//! Executes another program after a delay: `delayed_start MS PROGRAM ARGUMENTS…`, for services that take their time to start.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let millis = arguments.next().and_then(|millis| millis.to_str()?.parse().ok());
    let (Some(millis), Some(program)) = (millis, arguments.next()) else {
        eprintln!("usage: delayed_start MS PROGRAM ARGUMENTS…");
        return ExitCode::from(2);
    };
    thread::sleep(Duration::from_millis(millis));
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("delayed_start: cannot become {}: {error}", program.display());
    ExitCode::FAILURE
}
