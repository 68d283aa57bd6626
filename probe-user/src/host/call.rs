//! The system call that a thread is in, as `/proc/PID/task/TID/syscall` shows it (`proc_pid_syscall` in the kernel).

use super::{ProcReader, process::status_field};

/// Where a thread is, as far as the kernel tells without stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It runs, or is ready to run.
    Running,
    /// It waits outside of a system call, such as for a page of memory.
    Outside(Position),
    In(SystemCall),
}

/// A thread's place in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub stack_pointer: u64,
    pub program_counter: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    pub number: i64,
    pub arguments: [u64; 6],
    /// Where it was called.
    pub position: Position,
}

impl Call {
    /// Reads the line of the file. None if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let first = fields.next()?;
        if first == "running" {
            return Some(Self::Running);
        }
        let number: i64 = first.parse().ok()?;
        let mut values = fields.map(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok());
        let mut next = || values.next().flatten();
        if number < 0 {
            let position = Position { stack_pointer: next()?, program_counter: next()? };
            return Some(Self::Outside(position));
        }
        let arguments = [next()?, next()?, next()?, next()?, next()?, next()?];
        let position = Position { stack_pointer: next()?, program_counter: next()? };
        Some(Self::In(SystemCall { number, arguments, position }))
    }

    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Running => None,
            Self::Outside(position) => Some(*position),
            Self::In(call) => Some(call.position),
        }
    }
}

impl ProcReader {
    /// The system call that a thread is in. None if the thread is gone, or if the kernel hides it from this process.
    pub fn call(&self, pid: u32, tid: u32) -> Option<Call> {
        Call::parse(&self.task_text(pid, tid, "syscall")?)
    }

    /// The thread that traces a thread.
    pub fn tracer_of(&self, pid: u32, tid: u32) -> Option<u32> {
        let status = self.task_text(pid, tid, "status")?;
        status_field(&status, "TracerPid").next().filter(|tracer| *tracer != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_file_is_read() {
        assert_eq!(Call::parse("running\n"), Some(Call::Running));
        let outside = Call::parse("-1 0x7ffd10 0x7f20\n");
        let position = Position { stack_pointer: 0x7f_fd10, program_counter: 0x7f20 };
        assert_eq!(outside, Some(Call::Outside(position)));
        let in_call = Call::parse("202 0x1 0x80 0x2 0x0 0x0 0xffffffffffffffff 0x7ffd10 0x7f20\n");
        let arguments = [1, 0x80, 2, 0, 0, u64::MAX];
        assert_eq!(in_call, Some(Call::In(SystemCall { number: 202, arguments, position })));
        assert_eq!(in_call.and_then(|call| call.position()), Some(position));
    }

    #[test]
    fn a_file_that_is_cut_off_is_no_call() {
        for text in ["", "202", "202 0x1 0x2", "-1 0x1", "word 0x1", "202 1 2 3 4 5 six 7 8", "-1 0x1 0xg"] {
            assert_eq!(Call::parse(text), None, "{text:?}");
        }
    }
}
