//! What the kernel gives: records of the hooks, messages of netlink, its log, its type information.
use std::{path::Path, sync::OnceLock};

use hostprobe::{
    host::{self, Cgroups},
    inspect::crash,
    sensor::{
        ebpf::{
            btf::{KernelTypes, reduce},
            decode::decode,
            fields,
        },
        fallback::fuzz::{connector_event, host_report, oom_kills},
    },
};
use hostprobe_fuzz::split;

fn cgroups() -> &'static Cgroups {
    static CGROUPS: OnceLock<Cgroups> = OnceLock::new();
    CGROUPS.get_or_init(|| Cgroups::discover(Path::new("/")).expect("the cgroups of this host"))
}

pub fn fuzz(input: &[u8]) {
    let Some((source, bytes)) = input.split_first() else { return };
    match source {
        b'r' => {
            if let Ok(record) = decode(bytes) {
                let _ = format!("{record:?}");
            }
        }
        b'c' => drop(connector_event(bytes)),
        b'e' => drop(crash::fuzz::build_id(bytes)),
        b'm' => _ = crash::fuzz::mappings(&String::from_utf8_lossy(bytes)),
        b's' => drop(host::fuzz::sockets(bytes)),
        b'h' => {
            let line = String::from_utf8_lossy(bytes);
            if let Some((_, target, words)) = host_report(&line) {
                // The words are a part of the line, and the target is one that the line has.
                assert!(target.len() <= 64 && line.contains(&target), "{target:?} of {line:?}");
                assert!(
                    words.strip_prefix("the kernel reports: ").is_some_and(|words| line.starts_with(words))
                );
            }
        }
        b'k' => drop(oom_kills(split(bytes, b"\0"), cgroups())),
        b't' => {
            let reduced = reduce::reduce(bytes, &fields::names());
            let parts = [Some(bytes), reduced.as_deref().ok()];
            for types in parts.into_iter().flatten().filter_map(|part| KernelTypes::parse(part).ok()) {
                let _ = fields::resolve(&types);
            }
        }
        _ => {}
    }
}
