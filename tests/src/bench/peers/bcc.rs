//! bcc's exitsnoop and tcpstates, in their libbpf form.

use std::{
    ffi::CString,
    io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::process::Running;

/// Longest wait until one is attached.
const START: Duration = Duration::from_secs(30);

/// One of the tools, at work; ended when it is dropped.
#[derive(Debug)]
pub struct Tool {
    /// Its process. Each line of its standard output is one event.
    pub process: Running,
}

impl Tool {
    /// exitsnoop: a line for each process that ends.
    pub fn exitsnoop() -> Result<Self> {
        Self::start("exitsnoop", "PCOMM")
    }

    /// tcpstates: a line for each change of a TCP socket's state.
    pub fn tcpstates() -> Result<Self> {
        Self::start("tcpstates", "SKADDR")
    }

    fn start(name: &str, heading: &str) -> Result<Self> {
        let process = Running::start(&mut command(name)?, Signal::INT);
        // The heading is written when the program is attached.
        let headed = |lines: &[String]| lines.iter().any(|line| line.contains(heading)).then_some(());
        ensure!(
            process.stdout.wait_for(START, headed).is_some(),
            "{name} does not begin: {}",
            process.stderr.all().join("; ")
        );
        Ok(Self { process })
    }
}

/// The command that starts a tool, with its output by line as on a terminal. The programs attach by tracefs, which not every
/// host has mounted, so it is mounted where they alone see it.
pub fn command(name: &str) -> Result<Command> {
    let program = format!("/usr/sbin/{name}");
    ensure!(
        std::path::Path::new(&program).exists(),
        "{program} is missing; it is in the package libbpf-tools"
    );
    let words = ["tracefs", "/", "/sys/kernel/tracing"].map(CString::new);
    let [Ok(tracefs), Ok(root), Ok(tracing)] = words else { unreachable!("none has a null") };
    let mut command = Command::new("/usr/bin/stdbuf");
    command.args(["-oL", &program]).stdin(Stdio::null());
    // SAFETY: only system calls that may follow a fork, on strings made before it.
    unsafe {
        command.pre_exec(move || {
            let none = std::ptr::null();
            let slave = libc::MS_REC | libc::MS_SLAVE;
            if libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(none, root.as_ptr(), none, slave, none.cast()) != 0
            {
                return Err(io::Error::last_os_error());
            }
            let mounted = libc::mount(tracefs.as_ptr(), tracing.as_ptr(), tracefs.as_ptr(), 0, none.cast());
            match io::Error::last_os_error() {
                // It is there already.
                error if mounted != 0 && error.raw_os_error() != Some(libc::EBUSY) => Err(error),
                _ => Ok(()),
            }
        });
    }
    Ok(command)
}

/// The columns of a line of exitsnoop: `PCOMM PID PPID TID AGE(s) EXIT_CODE`, of which only the first may have spaces.
pub fn exit_of(line: &str) -> Result<(u32, u32)> {
    // From behind: the code is one word or two, and the age is the last with a point.
    let words: Vec<&str> = line.split_whitespace().collect();
    let age = words.iter().rposition(|word| word.contains('.') && word.parse::<f64>().is_ok());
    let age = age.filter(|at| *at >= 4).with_context(|| format!("no line of exitsnoop: {line}"))?;
    Ok((words[age - 3].parse()?, words[age - 2].parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_exitsnoop_names_the_process_and_its_parent() -> Result<()> {
        assert_eq!(exit_of("sleep            22902   22900   22902   1.50    0")?, (22902, 22900));
        assert_eq!(
            exit_of("tmux: server     22915   22900   22915   0.01    signal 9 (KILL)")?,
            (22915, 22900)
        );
        assert!(exit_of("PCOMM            PID     PPID    TID     AGE(s)  EXIT_CODE").is_err());
        Ok(())
    }
}
