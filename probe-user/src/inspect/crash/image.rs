//! The programs and libraries that a process has mapped, and where their files are.
//!
//! A process that crashes is gone within microseconds, unless it dumps core, and its files in `/proc` with it. So its map is
//! read while it is watched. Its program and its root folder are kept open: a program may be deleted, and a service may
//! have files of its own.

use std::{
    fs::{self, File},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, NT_GNU_BUILD_ID},
    read::elf::{FileHeader, ProgramHeader as _},
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{
    fact::ProcessKey,
    host::{ProcReader, mapping::CodeMapping},
    untrusted_file,
};

/// Linkers place the build id near the beginning: the kernel looks at the first page only.
const HEAD_MAX: u64 = 64 << 10;

/// What is known of the code of a process.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub mappings: Arc<Vec<CodeMapping>>,
    files: Option<Arc<Files>>,
    /// Where it writes a core dump with a relative path.
    pub directory: Option<PathBuf>,
}

/// What is kept open of a process.
#[derive(Debug)]
struct Files {
    program: Option<File>,
    /// As `/proc/PID/exe` shows it.
    program_path: String,
    root: Option<File>,
}

impl Image {
    /// Reads it from a process; None if that has ended, or gives its memory back. It blocks.
    pub fn read(reader: &ProcReader, process: ProcessKey) -> Option<Self> {
        if reader.key_of(process.pid) != Some(process) {
            return None;
        }
        let folder = reader.folder(process.pid);
        let mappings = reader.code_mappings(process.pid);
        if mappings.is_empty() {
            return None;
        }
        let exe = folder.join("exe");
        let program_path = fs::read_link(&exe).unwrap_or_default().to_string_lossy().into_owned();
        let program_path = program_path.strip_suffix(" (deleted)").unwrap_or(&program_path).to_owned();
        let root = File::options()
            .read(true)
            .custom_flags((OFlags::PATH | OFlags::DIRECTORY).bits().cast_signed())
            .open(folder.join("root"));
        let files = Files { program: untrusted_file::open(&exe).ok(), program_path, root: root.ok() };
        // Another process may have the pid by now.
        (reader.key_of(process.pid) == Some(process)).then(|| Self {
            mappings: Arc::new(mappings),
            files: Some(Arc::new(files)),
            directory: fs::read_link(folder.join("cwd")).ok(),
        })
    }

    /// What is still of use once the process is gone: a later run of the service has most likely the same files.
    pub fn without_files(&self) -> Self {
        Self { files: None, ..self.clone() }
    }

    pub fn program_path(&self) -> Option<&str> {
        self.files.as_ref().map(|files| files.program_path.as_str())
    }

    pub fn at(&self, address: u64) -> Option<&CodeMapping> {
        self.mappings.iter().find(|mapping| mapping.range.contains(&address))
    }

    /// Opens the file of a mapping, and reads its build id. `wanted` is the build id that it must have if it is known; else
    /// the file must be the one that was mapped.
    pub fn open(&self, mapping: &CodeMapping, wanted: Option<&str>) -> Option<(File, Option<String>)> {
        let files = self.files.as_ref();
        let program =
            files.filter(|files| files.program_path == mapping.path).and_then(|it| it.program.as_ref());
        let is_it = |file: &File| {
            let build_id = build_id(file);
            let is_mapped = || file.metadata().is_ok_and(|it| it.ino() == mapping.inode);
            let fits = match wanted {
                Some(wanted) => build_id.as_deref().is_some_and(|found| is_build_id(found, wanted)),
                None => is_mapped(),
            };
            fits.then_some(build_id)
        };
        if let Some(file) = program.and_then(|file| file.try_clone().ok())
            && let Some(build_id) = is_it(&file)
        {
            return Some((file, build_id));
        }
        let file = self.open_path(&mapping.path)?;
        let build_id = is_it(&file)?;
        Some((file, build_id))
    }

    /// Opens the separate debug information of a file: as the process has it, or else the host.
    pub fn open_debug(&self, build_id: &str) -> Option<File> {
        let (first, rest) = build_id.split_at_checked(2)?;
        let path = format!("/usr/lib/debug/.build-id/{first}/{rest}.debug");
        let of_process = self.files.as_ref().and_then(|files| files.root.as_ref());
        let of_process = of_process.and_then(|root| open_below(root, &path));
        of_process.or_else(|| untrusted_file::open(Path::new(&path)).ok())
    }

    /// Opens a regular file as the process has it; as the daemon has it if the process's root folder is not known.
    pub fn open_path(&self, path: &str) -> Option<File> {
        match self.files.as_ref().and_then(|files| files.root.as_ref()) {
            Some(root) => open_below(root, path),
            None => untrusted_file::open(Path::new(path)).ok(),
        }
    }
}

/// Opens a regular file as a process with this root folder does. No link leads out of it.
fn open_below(root: &File, path: &str) -> Option<File> {
    let relative = path.trim_start_matches('/');
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside).ok()?;
    untrusted_file::open(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd()))).ok()
}

/// The build id of an ELF file, in hexadecimal digits.
pub fn build_id(file: &File) -> Option<String> {
    let mut head = vec![0; usize::try_from(HEAD_MAX).ok()?];
    // By position: the descriptor is shared with the file's other readers.
    let length = rustix::io::pread(file, head.as_mut_slice(), 0).ok()?;
    head.truncate(length);
    build_id_of(&head)
}

/// The build id in the beginning of an ELF file.
pub(super) fn build_id_of(head: &[u8]) -> Option<String> {
    of_head::<FileHeader64<Endianness>>(head).or_else(|| of_head::<FileHeader32<Endianness>>(head))
}

fn of_head<Elf: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<String> {
    let header = Elf::parse(head).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, head).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, head) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID && !note.desc().is_empty() {
                return Some(hexadecimal(note.desc()));
            }
        }
    }
    None
}

/// Whether a build id of a file is the one of a frame, which the kernel fills up with zeros.
pub fn is_build_id(of_file: &str, of_frame: &str) -> bool {
    of_frame.strip_prefix(of_file).is_some_and(|rest| rest.bytes().all(|digit| digit == b'0'))
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_image_has_the_program_and_its_build_id() {
        let reader = ProcReader::new("/").unwrap();
        let own = reader.key_of(std::process::id()).unwrap();
        let image = Image::read(&reader, own).unwrap();
        let here = the_own_image_has_the_program_and_its_build_id as *const () as usize as u64;
        let mapping = image.at(here).unwrap();
        assert_eq!(Some(mapping.path.as_str()), image.program_path());
        let (file, id) = image.open(mapping, None).unwrap();
        assert_eq!(build_id(&file), id);
        assert!(id.as_ref().is_some_and(|id| id.len() == 40), "{id:?}");
        assert!(image.open(mapping, Some("00")).is_none(), "another build id is wanted");
        let replaced = CodeMapping { inode: 1, ..mapping.clone() };
        assert!(image.open(&replaced, None).is_none(), "another file is at that path now");
        assert!(image.open(&replaced, id.as_deref()).is_some(), "the same build at another place");
        let other = ProcessKey { start: crate::clock::Timestamp::from_nanos(1), ..own };
        assert!(Image::read(&reader, other).is_none(), "another process with this pid");
    }

    #[test]
    fn no_bytes_of_a_file_are_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("elf");
        let own = fs::read("/proc/self/exe").unwrap();
        for length in [0, 1, 16, 63, 64, 65, 200, 900] {
            fs::write(&path, &own[..length]).unwrap();
            let _ = build_id(&File::open(&path).unwrap());
        }
        let mut state = 1_u64;
        for _ in 0..500 {
            let mut bytes = own[..4096].to_vec();
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap() % 1024;
                bytes[at] = (state >> 24) as u8;
            }
            fs::write(&path, &bytes).unwrap();
            let _ = build_id(&File::open(&path).unwrap());
        }
    }
}
