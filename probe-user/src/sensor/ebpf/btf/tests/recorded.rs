//! The resolver on the type information of real kernels, intact and damaged.
//!
//! `cargo xtask vm --record` writes it: the reduced type information of each kernel, and the offsets that the complete
//! one gave in that kernel.

use super::*;
use crate::sensor::ebpf::fields::Resolved;

/// A kernel's series, its reduced type information, and the offsets from the complete one.
struct Recorded(&'static str, &'static [u8], &'static str);

macro_rules! recorded {
    ($($series:literal)*) => {
        [$(Recorded(
            $series,
            include_bytes!(concat!("../recorded/", $series, ".btf")),
            include_str!(concat!("../recorded/", $series, ".txt")),
        )),*]
    };
}

const KERNELS: [Recorded; 5] = recorded!["5.10" "6.1" "6.12" "6.18" "7.2"];

fn resolve(bytes: &[u8]) -> Result<Resolved, String> {
    KernelTypes::parse(bytes).map(|types| fields::resolve(&types))
}

fn lines_of(resolved: &Resolved) -> Vec<String> {
    let globals = resolved.globals.iter().map(|(name, value)| format!("{name} {value}"));
    let unusable =
        resolved.unusable.iter().map(|(hook, reason)| format!("unusable {}: {reason}", hook.tracepoint()));
    globals.chain(unusable).collect()
}

#[test]
fn reduced_type_information_resolves_to_the_recorded_offsets() {
    for Recorded(series, bytes, recorded) in KERNELS {
        let resolved = resolve(bytes).unwrap();
        let recorded: Vec<_> = recorded.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines_of(&resolved), recorded, "{series}");
        assert!(resolved.lacking.is_empty(), "{series}: {:?}", resolved.lacking);
        let unusable: Vec<_> = resolved.unusable.keys().copied().collect();
        // The oldest kernel lacks two tracepoints. In Debian's kernels XFS is a module, which the machines do not have. Three
        // kernels are built without machine checks.
        let expected: &[_] = match series {
            "5.10" => &[Hook::SocketReport, Hook::BlockError, Hook::XfsShutdown, Hook::MachineCheck],
            "6.1" => &[Hook::XfsShutdown, Hook::MachineCheck],
            "6.18" => &[Hook::MachineCheck],
            _ => &[Hook::XfsShutdown],
        };
        assert_eq!(unusable, expected, "{series}: {:?}", resolved.unusable);
        let absent: Vec<_> = resolved.absent.iter().copied().collect();
        let of_host: Vec<_> = expected.iter().copied().filter(|hook| hook.host_check().is_some()).collect();
        assert_eq!(absent, of_host, "{series}");
    }
}

#[test]
fn forms_and_offsets_differ_between_kernels() {
    let of_all = |global: &str| KERNELS.map(|it| resolve(it.1).unwrap().globals[global]);
    assert_eq!(of_all("EXIT_HAS_GROUP_DEAD"), [0, 0, 0, 1, 1]);
    // Stable updates of the older kernels gave mark_victim its task.
    assert_eq!(of_all("MARK_VICTIM_HAS_TASK"), [1; 5]);
    // The machine check is the argument itself, or the first field of it.
    assert_eq!(of_all("MCE_OFFSET"), [0; 5]);
    let all = KERNELS.map(|it| resolve(it.1).unwrap().globals);
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other != one), "{} equals another kernel", KERNELS[at].0);
    }
}

#[test]
fn a_second_reduction_changes_nothing() {
    for Recorded(series, bytes, _) in KERNELS {
        let again = reduce::reduce(bytes, &fields::names()).unwrap();
        assert_eq!(resolve(&again).unwrap(), resolve(bytes).unwrap(), "{series}");
        assert_eq!(again.len(), bytes.len(), "{series}");
    }
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    for Recorded(series, bytes, _) in KERNELS {
        for length in 0..bytes.len() {
            let error = resolve(&bytes[..length]).unwrap_err();
            let named = error.contains("no header") || error.contains("end before");
            assert!(named, "{series}, {length} bytes: {error}");
            assert!(reduce::reduce(&bytes[..length], &fields::names()).is_err());
        }
    }
}

#[test]
fn a_damaged_byte_never_panics() {
    let Recorded(_, bytes, _) = KERNELS[0];
    for at in 0..bytes.len() {
        for flip in [0xff, 0x01] {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= flip;
            // Any result will do.
            let _ = resolve(&damaged);
            let _ = reduce::reduce(&damaged, &fields::names());
        }
    }
}

#[test]
fn the_reason_names_a_missing_type() {
    for Recorded(series, bytes, _) in KERNELS {
        let whole = resolve(bytes).unwrap();
        for name in fields::names().types {
            // Without the first the programs are only slower, see the next test. Without the second, less is said of a crash.
            if [fields::HELPERS, fields::REGISTERS].contains(&name.as_str()) {
                continue;
            }
            let wanted = name.strip_prefix("btf_trace_").unwrap_or(&name);
            let needed = fields::needed_by(&name);
            let is_lost = |hook| whole.unusable.contains_key(hook);
            if !has(bytes, &name) || (!needed.is_empty() && needed.iter().all(is_lost)) {
                continue;
            }
            let partial = resolve(&without(bytes, &name)).unwrap();
            let reasons: Vec<_> =
                partial.unusable.values().chain(partial.lacking.values().flatten()).collect();
            let named = |reason: &&&String| {
                reason.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').any(|word| word == wanted)
            };
            assert!(reasons.iter().any(|it| named(&it)), "{series} without {name}: {reasons:?}");
            // Every other global keeps its value.
            for (global, value) in &partial.globals {
                assert!([whole.globals[global], 0, probe_abi::ABSENT].contains(value), "{series}: {global}");
            }
        }
    }
}

#[test]
fn without_the_enum_of_helpers_no_detail_is_lost_but_the_registers() {
    for Recorded(series, bytes, _) in &KERNELS[1..] {
        let whole = resolve(bytes).unwrap();
        let mut partial = resolve(&without(bytes, fields::HELPERS)).unwrap();
        assert_eq!(whole.globals[fields::IS_TYPED], 1, "{series}");
        assert_eq!(partial.globals.insert(fields::IS_TYPED, 1), Some(0), "{series}");
        let has_registers = whole.globals[fields::HAS_REGISTERS];
        assert_eq!(partial.globals.insert(fields::HAS_REGISTERS, has_registers), Some(0), "{series}");
        assert_eq!(partial, whole, "{series}");
    }
}

#[test]
fn the_reason_names_a_missing_constant() {
    let Recorded(_, bytes, _) = KERNELS[0];
    let place = bytes.windows(12).position(|it| it == b"MM_ANONPAGES").unwrap();
    let mut without = bytes.to_vec();
    without[place] = b'N';
    let resolved = resolve(&without).unwrap();
    assert_eq!(resolved.lacking[&Hook::Oom], ["this kernel has no type MM_ANONPAGES"]);
    assert_eq!(resolved.globals["OFF_MM_RSS_ANON"], probe_abi::ABSENT);
}

/// Whether a kernel has a type of this name.
fn has(bytes: &[u8], name: &str) -> bool {
    let sections = Sections::find(bytes).unwrap();
    sections
        .offsets()
        .unwrap()
        .iter()
        .any(|at| sections.name(sections.type_at(*at as usize).unwrap().name) == name)
}

/// Clears the name of all types that have it.
fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut partial = bytes.to_vec();
    let sections = Sections::find(bytes).unwrap();
    let mut offsets = sections.offsets().unwrap();
    offsets.retain(|offset| sections.name(sections.type_at(*offset as usize).unwrap().name) == name);
    assert!(!offsets.is_empty(), "{name} is not recorded");
    for offset in offsets {
        // The section of types follows the header.
        partial[24 + offset as usize..][..4].fill(0);
    }
    partial
}
