//! The pipe that a process writes its output to, opened a second time by another process.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, openat};

use super::{FileId, ProcReader};

/// Standard output and standard error.
const OUTPUTS: [u32; 2] = [1, 2];

impl ProcReader {
    /// The reading end of the pipe with this identity, if it is an output of the process. Reads from it do not wait.
    ///
    /// A process chooses what its descriptors are. So the file is looked at before it is opened: to open a device or
    /// another FIFO may have an effect.
    pub fn output_pipe(&self, pid: u32, id: FileId) -> Option<OwnedFd> {
        OUTPUTS.into_iter().find_map(|output| {
            let path = self.folder(pid).join("fd").join(output.to_string());
            let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            let file = fstat(&found).ok()?;
            if FileType::from_raw_mode(file.st_mode) != FileType::Fifo || FileId::from(&file) != id {
                return None;
            }
            let same = format!("/proc/self/fd/{}", found.as_raw_fd());
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(CWD, same, flags, Mode::empty()).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn the_pipe_of_a_process_is_read_on_by_its_identity_alone() {
        let reader = ProcReader::new("/").unwrap();
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let (other, _other_end) = std::io::pipe().unwrap();
        let mut child =
            Command::new("/bin/sleep").arg("600").stderr(theirs.try_clone().unwrap()).spawn().unwrap();
        theirs.write_all(b"waits\n").unwrap();
        let id = FileId::of(&ours).unwrap();
        assert_eq!(FileId::read(&id.to_string()), Some(id));
        let mut again = std::fs::File::from(reader.output_pipe(child.id(), id).unwrap());
        drop(ours);
        let mut read = [0; 16];
        let length = again.read(&mut read).unwrap();
        assert_eq!(&read[..length], b"waits\n");
        assert_eq!(again.read(&mut read).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(reader.output_pipe(child.id(), FileId::of(&other).unwrap()).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        // What is no pipe is not opened, whatever its identity.
        let file = tempfile::tempfile().unwrap();
        let id = FileId::of(&file).unwrap();
        let mut child = Command::new("/bin/sleep").arg("600").stdout(Stdio::from(file)).spawn().unwrap();
        assert!(reader.output_pipe(child.id(), id).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
