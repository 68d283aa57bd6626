//! The resolver on the type information of real kernels, whole and broken.
//!
//! `cargo xtask vm --record` keeps it: of each kernel what the resolver looks at, and what it made of the whole when that
//! kernel ran.

use super::*;
use crate::sensor::ebpf::fields::Resolved;

/// A kernel's series, its type information, and what was resolved then.
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

fn as_recorded(resolved: &Resolved) -> Vec<String> {
    let globals = resolved.globals.iter().map(|(name, value)| format!("{name} {value}"));
    let unusable =
        resolved.unusable.iter().map(|(hook, reason)| format!("unusable {}: {reason}", hook.tracepoint()));
    globals.chain(unusable).collect()
}

#[test]
fn every_kernel_resolves_to_what_was_seen_in_it() {
    for Recorded(series, bytes, seen) in KERNELS {
        let resolved = resolve(bytes).unwrap();
        let seen: Vec<_> = seen.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(as_recorded(&resolved), seen, "{series}");
        assert!(resolved.lacking.is_empty(), "{series}: {:?}", resolved.lacking);
        // One tracepoint is younger than the oldest of them.
        let unusable: Vec<_> = resolved.unusable.keys().copied().collect();
        let expected: &[_] = if series == "5.10" { &[Hook::SocketReport] } else { &[] };
        assert_eq!(unusable, expected, "{series}: {:?}", resolved.unusable);
    }
}

#[test]
fn forms_and_places_differ_between_kernels() {
    let of_all = |global: &str| KERNELS.map(|it| resolve(it.1).unwrap().globals[global]);
    assert_eq!(of_all("EXIT_HAS_GROUP_DEAD"), [0, 0, 0, 1, 1]);
    // The task came to mark_victim in a stable update of the older ones.
    assert_eq!(of_all("MARK_VICTIM_HAS_TASK"), [1; 5]);
    let all = KERNELS.map(|it| resolve(it.1).unwrap().globals);
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other != one), "{} is like another", KERNELS[at].0);
    }
}

#[test]
fn what_is_reduced_stays_as_it_is() {
    for Recorded(series, bytes, _) in KERNELS {
        let again = reduce::reduce(bytes).unwrap();
        assert_eq!(resolve(&again).unwrap(), resolve(bytes).unwrap(), "{series}");
        assert_eq!(again.len(), bytes.len(), "{series}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error_wherever_that_is() {
    for Recorded(series, bytes, _) in KERNELS {
        for length in 0..bytes.len() {
            let error = resolve(&bytes[..length]).unwrap_err();
            let said = error.contains("does not begin") || error.contains("end before");
            assert!(said, "{series}, {length} bytes: {error}");
            assert!(reduce::reduce(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn a_spoilt_byte_is_never_the_end_of_the_daemon() {
    let Recorded(_, bytes, _) = KERNELS[0];
    for at in 0..bytes.len() {
        for spoil in [0xff, 0x01] {
            let mut spoilt = bytes.to_vec();
            spoilt[at] ^= spoil;
            // Whatever it says now, it says it.
            let _ = resolve(&spoilt);
            let _ = reduce::reduce(&spoilt);
        }
    }
}

#[test]
fn a_type_that_is_missing_is_named() {
    for Recorded(series, bytes, _) in KERNELS {
        let whole = resolve(bytes).unwrap();
        for name in fields::names().types {
            // What lacks without it is time alone, as the next test says.
            if name == fields::HELPERS {
                continue;
            }
            let wanted = name.strip_prefix("btf_trace_").unwrap_or(&name);
            if whole.unusable.keys().any(|hook| hook.tracepoint() == wanted) {
                continue;
            }
            let lessened = resolve(&without(bytes, &name)).unwrap();
            let reasons: Vec<_> =
                lessened.unusable.values().chain(lessened.lacking.values().flatten()).collect();
            let named = |reason: &&&String| {
                reason.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').any(|word| word == wanted)
            };
            assert!(reasons.iter().any(|it| named(&it)), "{series} without {name}: {reasons:?}");
            // What does not come from it is where it was.
            for (global, value) in &lessened.globals {
                assert!([whole.globals[global], 0, probe_abi::ABSENT].contains(value), "{series}: {global}");
            }
        }
    }
}

#[test]
fn without_the_list_of_helpers_nothing_is_lost() {
    for Recorded(series, bytes, _) in &KERNELS[1..] {
        let whole = resolve(bytes).unwrap();
        let mut lessened = resolve(&without(bytes, fields::HELPERS)).unwrap();
        assert_eq!(whole.globals[fields::IS_TYPED], 1, "{series}");
        assert_eq!(lessened.globals.insert(fields::IS_TYPED, 1), Some(0), "{series}");
        assert_eq!(lessened, whole, "{series}");
    }
}

#[test]
fn a_constant_that_is_missing_is_named() {
    let Recorded(_, bytes, _) = KERNELS[0];
    let place = bytes.windows(12).position(|it| it == b"MM_ANONPAGES").unwrap();
    let mut without = bytes.to_vec();
    without[place] = b'N';
    let resolved = resolve(&without).unwrap();
    assert_eq!(resolved.lacking[&Hook::Oom], ["this kernel has no type MM_ANONPAGES"]);
    assert_eq!(resolved.globals["OFF_MM_RSS_ANON"], probe_abi::ABSENT);
}

/// Takes the name from all types that have it.
fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut lessened = bytes.to_vec();
    let sections = reduce::Sections::find(bytes).unwrap();
    let mut places = sections.places().unwrap();
    places.retain(|place| sections.kind_at(*place as usize).unwrap().name == name);
    assert!(!places.is_empty(), "{name} is not recorded");
    for place in places {
        // The section of types follows the header.
        lessened[24 + place as usize..][..4].fill(0);
    }
    lessened
}
