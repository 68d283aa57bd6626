//! The code that a process has mapped, from `/proc/PID/maps`.

use std::ops::Range;

use super::{ProcReader, read_text};

/// The most bytes of the file that are read. A process with 10,000 mappings has less than one megabyte.
const MAPS_MAX: u64 = 4 << 20;

/// The most mappings with code that are kept. Large programs have some hundred.
const MAPPINGS_MAX: usize = 4096;

/// A part of a file that a process executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    pub range: Range<u64>,
    /// Where in the file the range begins.
    pub offset: u64,
    /// Device and inode number of the file, as the kernel shows them here.
    pub device: (u32, u32),
    pub inode: u64,
    /// The path in the process's own mount namespace.
    pub path: String,
    /// The file was deleted or replaced since.
    pub is_deleted: bool,
}

impl CodeMapping {
    /// Reads a line of the file. None if it has another form, maps no file, or maps no code.
    pub fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut next = || {
            let (field, after) = rest.split_once(' ')?;
            rest = after.trim_start_matches(' ');
            Some(field)
        };
        let (start, end) = next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = hex(start)?..hex(end)?;
        let permissions = next()?;
        let offset = hex(next()?)?;
        let (major, minor) = next()?.split_once(':')?;
        let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        let inode = next()?.parse().ok()?;
        if range.is_empty() || !permissions.contains('x') || !rest.starts_with('/') {
            return None;
        }
        let (path, is_deleted) = match rest.strip_suffix(" (deleted)") {
            Some(path) => (path, true),
            None => (rest, false),
        };
        // The kernel escapes line feeds alone.
        let path = path.replace("\\012", "\n");
        Some(Self { range, offset, device, inode, path, is_deleted })
    }

    /// Whether this part of the file is mapped here.
    pub fn covers(&self, offset: u64) -> bool {
        let inside = offset.checked_sub(self.offset);
        inside.is_some_and(|inside| inside < self.range.end - self.range.start)
    }

    /// The name of the file without its folder.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl ProcReader {
    /// The mapped code of a process, in the order of its addresses. Empty if it is gone, or if the kernel hides it from
    /// this process.
    pub fn code_mappings(&self, pid: u32) -> Vec<CodeMapping> {
        let text = read_text(&self.folder(pid).join("maps"), MAPS_MAX).unwrap_or_default();
        text.lines().filter_map(CodeMapping::parse).take(MAPPINGS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_code_is_read_whatever_its_path_is() {
        let line =
            "55d0a000-55d0b000 r-xp 00001000 fe:10 4711                       /srv/my app\\012x (deleted)";
        let found = CodeMapping::parse(line).unwrap();
        assert_eq!((found.range.clone(), found.offset), (0x55d0_a000..0x55d0_b000, 0x1000));
        assert_eq!((found.device, found.inode), ((0xfe, 0x10), 4711));
        assert_eq!((found.path.as_str(), found.is_deleted), ("/srv/my app\nx", true));
        assert_eq!(found.file_name(), "my app\nx");
        assert!(found.covers(0x1000) && found.covers(0x1fff));
        assert!(!found.covers(0x2000) && !found.covers(0xfff));
    }

    #[test]
    fn what_is_no_code_of_a_file_is_left_out() {
        for line in [
            "",
            "55d0a000-55d0b000 r--p 00001000 fe:10 4711 /srv/app",
            "7ffc0000-7ffc1000 r-xp 00000000 00:00 0 [vdso]",
            "7ffc0000-7ffc1000 rwxp 00000000 00:00 0 ",
            "7ffc1000-7ffc0000 r-xp 00000000 fe:10 4711 /srv/app",
            "7ffc0000 r-xp 00000000 fe:10 4711 /srv/app",
            "7ffc0000-7ffc1000 r-xp",
        ] {
            assert_eq!(CodeMapping::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_code_of_this_program_is_found() {
        let reader = ProcReader::new("/").unwrap();
        let found = reader.code_mappings(std::process::id());
        let own = mapped_code_is_read_whatever_its_path_is as fn() as usize as u64;
        let of_own = found.iter().find(|it| it.range.contains(&own)).unwrap();
        assert_eq!(std::path::Path::new(&of_own.path), std::env::current_exe().unwrap());
    }
}
