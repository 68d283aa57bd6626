//! Lookups in handwritten type information: in the forms of older and newer kernels, and in broken files.

use super::*;
use crate::sensor::ebpf::{coverage::Hook, fields};

mod recorded;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const CONST: u32 = 10;
const FUNC_PROTO: u32 = 13;

/// Writes BTF, see <https://docs.kernel.org/bpf/btf.html>. Types are numbered from 1 in order of appearance.
#[derive(Clone)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    /// With `int` (4 bytes) as type 1 and `long` (8 bytes) as type 2.
    fn new() -> Self {
        let mut writer = Self { types: Vec::new(), strings: vec![0], count: 0 };
        writer.add("int", INT, 0, 4, &[32]);
        writer.add("long", INT, 0, 8, &[64]);
        writer
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len();
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        u32::try_from(offset).unwrap()
    }

    fn add(&mut self, name: &str, kind: u32, items: usize, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        let info = kind << 24 | u32::try_from(items).unwrap();
        for word in [name, info, size_or_type].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    /// Members are name, type and offset in bytes.
    fn aggregate(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let rest: Vec<_> = members.iter().flat_map(|it| [self.name(it.0), it.1, it.2 * 8]).collect();
        self.add(name, kind, members.len(), size, &rest)
    }

    fn array(&mut self, element: u32, length: u32) -> u32 {
        self.add("", ARRAY, 0, 0, &[element, 1, length])
    }

    fn tracepoint(&mut self, name: &str, arguments: &[u32]) {
        let rest: Vec<_> = [2].iter().chain(arguments).flat_map(|it| [0, *it]).collect();
        let proto = self.add("", FUNC_PROTO, arguments.len() + 1, 0, &rest);
        let pointer = self.add("", PTR, 0, proto, &[]);
        self.add(&format!("btf_trace_{name}"), TYPEDEF, 0, pointer, &[]);
    }

    fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    fn types(&self) -> KernelTypes {
        KernelTypes::parse(&self.bytes()).unwrap()
    }

    /// The file of a module: what was added to `kernel`, which goes on where that ends.
    fn after(&self, kernel: &Self) -> Vec<u8> {
        let [types, strings] = [(&self.types, &kernel.types), (&self.strings, &kernel.strings)]
            .map(|(all, before)| all[before.len()..].to_vec());
        Self { types, strings, count: 0 }.bytes()
    }
}

#[test]
fn finds_fields_through_typedefs_and_nameless_members() {
    let mut writer = Writer::new();
    let inner = writer.aggregate(STRUCT, "inner", 8, &[("x", 1, 0), ("y", 1, 4)]);
    let alias = writer.add("inner_t", TYPEDEF, 0, inner, &[]);
    let constant = writer.add("", CONST, 0, alias, &[]);
    let hidden = writer.aggregate(UNION, "", 8, &[("a", 2, 0), ("b", 1, 0)]);
    writer.aggregate(STRUCT, "outer", 32, &[("first", 2, 0), ("", hidden, 8), ("held", constant, 16)]);
    let types = writer.types();
    assert_eq!(types.offset("outer", "b").unwrap(), 8);
    assert_eq!(types.offset("outer", "held.y").unwrap(), 20);
    assert_eq!(types.size_of("outer").unwrap(), 32);
    let error = types.offset("outer", "held.z").unwrap_err();
    assert_eq!(error.to_string(), "this kernel has no field outer.held.z");
    assert_eq!(types.offset("missing", "x").unwrap_err().to_string(), "this kernel has no type missing");
}

#[test]
fn finds_resident_set_counters_in_both_forms() {
    // Newer kernels: an array of percpu_counter, each with its count.
    let mut writer = Writer::new();
    let counter = writer.aggregate(STRUCT, "percpu_counter", 40, &[("lock", 1, 0), ("count", 2, 8)]);
    let counters = writer.array(counter, 4);
    writer.aggregate(STRUCT, "mm_struct", 1000, &[("rss_stat", counters, 600)]);
    assert_eq!(writer.types().counter_offset("mm_struct", "rss_stat", 1).unwrap(), 600 + 40 + 8);

    // Older kernels: a structure with an array of atomic_long_t.
    let mut writer = Writer::new();
    let atomic = writer.aggregate(STRUCT, "", 8, &[("counter", 2, 0)]);
    let atomic = writer.add("atomic_long_t", TYPEDEF, 0, atomic, &[]);
    let counters = writer.array(atomic, 4);
    let holder = writer.aggregate(STRUCT, "mm_rss_stat", 32, &[("count", counters, 0)]);
    writer.aggregate(STRUCT, "mm_struct", 1000, &[("rss_stat", holder, 600)]);
    assert_eq!(writer.types().counter_offset("mm_struct", "rss_stat", 1).unwrap(), 600 + 8);

    // Any other form is an error.
    let mut writer = Writer::new();
    writer.aggregate(STRUCT, "mm_struct", 1000, &[("rss_stat", 2, 600)]);
    assert!(matches!(
        writer.types().counter_offset("mm_struct", "rss_stat", 1),
        Err(BtfError::Unexpected { .. })
    ));
}

#[test]
fn finds_constants_of_enums_with_and_without_a_name() {
    let mut writer = Writer::new();
    let (a, b) = (writer.name("cpu_cgrp_id"), writer.name("memory_cgrp_id"));
    writer.add("cgroup_subsys_id", ENUM, 2, 4, &[a, 0, b, 4]);
    let pages = writer.name("MM_ANONPAGES");
    writer.add("", ENUM, 1, 4, &[pages, 1]);
    let types = writer.types();
    assert_eq!(types.constant("cgroup_subsys_id", "memory_cgrp_id").unwrap(), 4);
    assert_eq!(types.anonymous_constant("MM_ANONPAGES").unwrap(), 1);
    assert!(types.anonymous_constant("MM_MISSING").is_err());
}

#[test]
fn the_form_of_a_tracepoint_decides_which_arguments_are_read() {
    for (old, has_group_dead, has_task) in [(true, 0, 0), (false, 1, 1)] {
        let mut writer = Writer::new();
        let task = writer.aggregate(STRUCT, "task_struct", 64, &[("tgid", 1, 0)]);
        let task = writer.add("", PTR, 0, task, &[]);
        if old {
            writer.tracepoint("sched_process_exit", &[task]);
            writer.tracepoint("mark_victim", &[1]);
        } else {
            writer.tracepoint("sched_process_exit", &[task, 1]);
            writer.tracepoint("mark_victim", &[task, 1]);
        }
        let types = writer.types();
        let expected = if old { Argument::Scalar } else { Argument::Pointer("task_struct".to_owned()) };
        assert_eq!(types.tracepoint("mark_victim").unwrap()[0], expected);
        let resolved = fields::resolve(&types);
        assert_eq!(resolved.globals["EXIT_HAS_GROUP_DEAD"], has_group_dead);
        assert_eq!(resolved.globals["MARK_VICTIM_HAS_TASK"], has_task);
        assert_eq!(resolved.globals["OFF_TASK_TGID"], 0);
        assert_eq!(resolved.globals["OFF_TASK_COMM"], probe_abi::ABSENT);
        // The reason names the missing field, or the missing tracepoint.
        assert_eq!(resolved.unusable[&Hook::Exit], "this kernel has no field task_struct.group_leader");
        assert!(resolved.unusable.contains_key(&Hook::Socket));
        assert!(resolved.lacking[&Hook::Exit].contains(&"this kernel has no type upid".to_owned()));
    }
}

#[test]
fn hooks_in_modules_are_found_in_the_modules_files() {
    let mut kernel = Writer::new();
    let id = kernel.array(1, 32);
    let block = kernel.aggregate(STRUCT, "super_block", 64, &[("s_dev", 1, 0), ("s_id", id, 16)]);
    let (mut ext4, mut xfs) = (kernel.clone(), kernel.clone());
    let pointer = ext4.add("", PTR, 0, block, &[]);
    let text = ext4.add("", PTR, 0, 1, &[]);
    ext4.tracepoint("ext4_error", &[pointer, text, 1]);
    let pointer = xfs.add("", PTR, 0, block, &[]);
    let mount = xfs.aggregate(STRUCT, "xfs_mount", 64, &[("m_super", pointer, 24)]);
    let mount = xfs.add("", PTR, 0, mount, &[]);
    xfs.tracepoint("xfs_force_shutdown", &[mount, 1, 1, pointer, 1]);

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let resolved = || fields::resolve(&fields::read(&folder.path().join("vmlinux")).unwrap());
    let both = [Hook::Ext4Error, Hook::XfsShutdown];
    write("vmlinux", &kernel.bytes());
    assert!(both.iter().all(|hook| resolved().absent.contains(hook)));
    write("xfs", &xfs.after(&kernel));
    write("ext4", &ext4.after(&kernel));
    let found = resolved();
    for hook in both {
        assert!(!found.unusable.contains_key(&hook), "{:?}", found.unusable);
    }
    assert_eq!((found.globals["OFF_SUPER_ID"], found.globals["OFF_XFS_SUPER"]), (16, 24));
    // A broken one costs its own hook.
    write("ext4", b"no type information");
    assert_eq!(both.map(|hook| resolved().absent.contains(&hook)), [true, false]);
}

#[test]
fn broken_files_are_errors() {
    let mut writer = Writer::new();
    let inner = writer.aggregate(STRUCT, "inner", 8, &[("x", 1, 0)]);
    writer.aggregate(STRUCT, "outer", 16, &[("held", inner, 8)]);
    let whole = writer.bytes();
    for length in 0..whole.len() {
        assert!(KernelTypes::parse(&whole[..length]).is_err(), "{length} bytes");
    }
    let mut magic = whole.clone();
    magic[0] = 0;
    assert!(KernelTypes::parse(&magic).is_err());
    // A header that claims more than there is must not cause an allocation of that size.
    for at in [4, 8, 12, 16, 20] {
        let mut claim = whole.clone();
        claim[at..at + 4].fill(0xff);
        assert!(KernelTypes::parse(&claim).is_err());
    }
    assert!(KernelTypes::parse(b"not type information at all, but long enough").is_err());
    let error = fields::read(Path::new("/nonexistent/vmlinux")).err().unwrap().to_string();
    assert!(error.contains("/nonexistent/vmlinux"), "{error}");
}

#[test]
fn types_that_refer_to_themselves_or_to_nothing_do_not_hang() {
    let mut writer = Writer::new();
    let own = writer.count + 1;
    writer.add("loop_t", TYPEDEF, 0, own, &[]);
    writer.aggregate(STRUCT, "holder", 16, &[("loop", own, 0), ("gone", 99, 8)]);
    writer.add("btf_trace_loop", TYPEDEF, 0, writer.count + 1, &[]);
    // Two branches on each of endless levels.
    let own = writer.count + 1;
    writer.aggregate(STRUCT, "", 16, &[("", own, 0), ("", own, 8)]);
    writer.aggregate(STRUCT, "deep", 16, &[("", own, 0), ("beyond", 1, 8)]);
    let types = writer.types();
    assert!(types.offset("holder", "loop.x").is_err());
    assert!(types.offset("holder", "gone.x").is_err());
    assert!(types.tracepoint("loop").is_err());
    assert!(types.offset("deep", "x").is_err());
    reduce::reduce(&writer.bytes(), &fields::names()).unwrap();
}

#[test]
fn offsets_that_overflow_are_errors() {
    let mut writer = Writer::new();
    let far = u32::MAX / 8;
    let inner = writer.add("inner", STRUCT, 1, u32::MAX, &[0, 1, u32::MAX]);
    let name = writer.name("x");
    let x = writer.add("", STRUCT, 1, u32::MAX, &[name, 1, u32::MAX]);
    let (a, count) = (writer.name("a"), writer.name("count"));
    writer.add("outer", STRUCT, 2, 8, &[0, x, u32::MAX, a, inner, 0]);
    let counter = writer.add("counter", STRUCT, 1, u32::MAX, &[count, 1, u32::MAX]);
    let counters = writer.array(counter, 4);
    writer.aggregate(STRUCT, "mm_struct", 8, &[("rss_stat", counters, 0)]);
    let types = writer.types();
    assert_eq!(
        types.offset("outer", "x").unwrap(),
        2 * far,
        "BTF counts bits, so the sum of two offsets in bytes still fits"
    );
    assert!(matches!(types.counter_offset("mm_struct", "rss_stat", 9), Err(BtfError::Unexpected { .. })));
}
