//! Programs of any content: their stacks come to an end, and their names as well.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    time::Duration,
};

use super::*;
use crate::stacks::name::Namer;

const PROGRAM: &str = "/bin/true";
const START: u64 = 0x5000_0000_0000;

/// A process folder whose program has this content.
struct Fake {
    folder: tempfile::TempDir,
    mapping: CodeMapping,
}

impl Fake {
    fn new(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, content).unwrap();
        symlink(&file, folder.path().join("exe")).unwrap();
        let meta = fs::metadata(&file).unwrap();
        let mapping = CodeMapping {
            range: START..START + content.len() as u64,
            offset: 0,
            device: (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev())),
            inode: meta.ino(),
            path: "/program".to_owned(),
            is_deleted: false,
        };
        Self { folder, mapping }
    }

    /// Follows a stack of return addresses into the program, and names each call. Returns the number of calls.
    fn look(&self) -> usize {
        let mapping = self.mapping.clone();
        let size = mapping.range.end - mapping.range.start;
        let mut unwinder = Unwinder::of_process(self.folder.path().to_owned(), vec![mapping]);
        let stack: Vec<u64> = (0..2048).map(|index| START + index * 13 % size).collect();
        let mut memory = StackMemory::new(i32::try_from(std::process::id()).unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        let mut calls = 0;
        let mut namer = Namer::new(self.folder.path());
        for offset in (0..size).step_by(997) {
            let stack_pointer = &raw const stack[0] as u64;
            let registers = Registers {
                program_counter: START + offset,
                stack_pointer,
                frame_pointer: stack_pointer + 64,
                link: START + offset,
            };
            let found = unwinder.calls(&registers, &mut memory, until);
            calls += found.places.len();
            for place in found.places.iter().take(2) {
                if let Some((image, address)) = unwinder.image_of(place) {
                    let _ = namer.function(&image, address);
                }
            }
        }
        calls
    }
}

#[test]
fn a_program_with_damaged_tables_is_followed_to_some_end() {
    let program = fs::read(PROGRAM).unwrap();
    assert!(Fake::new(&program).look() > 10);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..40 {
        let mut damaged = program.clone();
        for _ in 0..1 + next() % 400 {
            let at = 64 + next() as usize % (damaged.len() - 64);
            damaged[at] = next() as u8;
        }
        let _ = Fake::new(&damaged).look();
    }
    for length in [10, 64, 4096, program.len() / 2] {
        let _ = Fake::new(&program[..length]).look();
    }
}

#[test]
fn another_file_at_the_path_of_a_program_is_not_taken_for_it() {
    let fake = Fake::new(&fs::read(PROGRAM).unwrap());
    let other = CodeMapping { inode: fake.mapping.inode + 1, is_deleted: true, ..fake.mapping.clone() };
    let mut unwinder = Unwinder::of_process(fake.folder.path().to_owned(), vec![other]);
    let place = CodeAddress { address: START + 10, mapping: unwinder.mapping_of(START + 10) };
    unwinder.load(0);
    assert!(unwinder.image_of(&place).is_none());
    assert_eq!(unwinder.unread(), ["/program: the file was replaced since the process started"]);
}
