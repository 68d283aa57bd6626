//! Loads the eBPF object into the kernel: its globals, its maps, then each program by itself.

mod attach;
mod constants;
mod loader;

use std::path::PathBuf;

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
};

use self::loader::loader;
use super::{
    adoption::Owners,
    coverage::Attachment,
    error::LoadError,
    fields::{self, IS_TYPED, Resolved},
    loss::Tally,
    missed::Missed,
    namespace,
    options::Options,
    prefilter::Prefilter,
    repeated::{ErrorCounts, FaultCounts},
    retransmits::RetransmitCounts,
    rights,
    ring::Rings,
    sent_signals::SentSignals,
    stack::{self, Scopes, Table},
    watch::{Lineages, Watched},
};
use crate::host::cgroup;

/// The compiled programs: `cargo xtask build-ebpf` builds them from `probe-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/hostprobe.bpf.o");

/// The section of the prefilter, which the loader makes a map of.
const PREFILTER: &str = ".bss.prefilter";

/// The files that a load reads.
pub struct Paths {
    pub btf: PathBuf,
    pub kallsyms: PathBuf,
    /// This process's status, with its capabilities.
    pub status: PathBuf,
    /// The link that names this process's pid namespace.
    pub pid_namespace: PathBuf,
    /// This process's cgroups, with the hierarchies of the controllers.
    pub cgroups: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            btf: "/sys/kernel/btf/vmlinux".into(),
            kallsyms: "/proc/kallsyms".into(),
            status: "/proc/self/status".into(),
            pid_namespace: "/proc/self/ns/pid".into(),
            cgroups: "/proc/self/cgroup".into(),
        }
    }
}

/// The attached programs and their maps.
pub(super) struct Loaded {
    pub ebpf: Ebpf,
    pub coverage: Vec<Attachment>,
    pub rings: Rings,
    pub watched: Watched,
    pub errors: ErrorCounts,
    pub faults: FaultCounts,
    pub retransmits: RetransmitCounts,
    pub signals: SentSignals,
    pub tally: Tally,
    pub missed: Missed,
    pub scopes: Scopes,
}

/// Loads everything. See [`super::EbpfSensor::load`].
pub(super) fn load(options: &Options, paths: &Paths) -> Result<Loaded, LoadError> {
    let missing = rights::missing(&paths.status);
    if !missing.is_empty() {
        return Err(LoadError::NotPermitted { missing });
    }
    let mut loader = loader();
    let mut resolved = fields::resolve(&fields::read(&paths.btf).map_err(LoadError::Btf)?);
    resolved.globals.insert("HAS_MEMORY_V1", cgroup::memory_number(&paths.cgroups).is_some().into());
    let log_level = if options.log { u8::MAX } else { 0 };
    configure(&mut loader, options, &log_level, &resolved);
    let mut values = resolved.globals.clone();
    values.extend([("PROBER", options.prober), ("PIDNS_LEVEL", 0), ("PIDNS_INODE", 0)]);
    values.insert(aya_log::LEVEL, log_level.into());
    let (level, inode);
    if let Some(it) = namespace::other_than_initial(&paths.pid_namespace) {
        let ebpf = loader.load(OBJECT).map_err(permission_or_object)?;
        (level, inode) = (namespace::level(ebpf, &resolved)?, it);
        loader.override_global("PIDNS_LEVEL", &level, true).override_global("PIDNS_INODE", &inode, true);
        values.extend([("PIDNS_LEVEL", level), ("PIDNS_INODE", inode)]);
    }
    let wanted = |hook| attach::ruled_out(hook, options, &resolved).is_none();
    let mut ebpf = loader.load(&constants::inline(OBJECT, &values)).map_err(permission_or_object)?;
    attach::verify(&mut ebpf, wanted);
    if !attach::accepts_typed_reads(&mut ebpf, &resolved, wanted) {
        loader.override_global(IS_TYPED, &0_u32, true);
        values.insert(IS_TYPED, 0);
        ebpf = loader.load(&constants::inline(OBJECT, &values)).map_err(permission_or_object)?;
        attach::verify(&mut ebpf, wanted);
    }

    // All maps are opened before the first attach, so that a failure leaves no program running.
    let rings = Rings::new(ring(&mut ebpf, "URGENT")?, ring(&mut ebpf, "BULK")?);
    let watched = Watched::new(
        map(&mut ebpf, "WATCHED_TGID")?,
        Lineages::new(map(&mut ebpf, "DESCENDANTS")?),
        map(&mut ebpf, "WATCHED_CGROUP")?,
        map(&mut ebpf, "WATCHED_PORT")?,
        Owners::new(map(&mut ebpf, "WATCHED_OWNERS")?),
        map(&mut ebpf, "OWNERS")?,
        Prefilter::new(map(&mut ebpf, PREFILTER)?)
            .map_err(|source| LoadError::Map { name: PREFILTER, source })?,
    );
    let errors = ErrorCounts::new(map(&mut ebpf, "ERRORS")?);
    let faults = FaultCounts::new(map(&mut ebpf, "FAULTS")?);
    let retransmits = RetransmitCounts::new(map(&mut ebpf, "RETRANSMITS")?);
    let signals = SentSignals::new(map(&mut ebpf, "SIGNALS")?);
    let drops: PerCpuArray<_, u64> = map(&mut ebpf, "DROPS")?;
    let exits: PerCpuArray<_, u64> = map(&mut ebpf, "EXITS")?;

    let mut coverage = attach::attach_all(&mut ebpf, options, &resolved);
    let symbols = Table::open_or_copy(&paths.kallsyms, stack::COPY.as_ref());
    if let Err(reason) = &symbols {
        attach::add_loss_of_symbols(&mut coverage, reason);
    }
    if !coverage.iter().any(|it| it.attached) {
        return Err(LoadError::NoHook(coverage));
    }
    let attached = coverage.iter().filter(|it| it.attached).map(|it| it.hook);
    let missed = Missed::of(&ebpf, attached);
    let tally = Tally::new(drops, exits);
    Ok(Loaded {
        ebpf,
        coverage,
        rings,
        watched,
        errors,
        faults,
        retransmits,
        signals,
        tally,
        missed,
        scopes: Scopes::of(symbols.ok()),
    })
}

/// Sets the sizes of the maps and the values of the globals.
fn configure<'a>(
    loader: &mut EbpfLoader<'a>,
    options: &'a Options,
    log_level: &'a u8,
    resolved: &'a Resolved,
) {
    loader
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .map_max_entries("URGENT", ring_size(options.urgent_ring_bytes))
        .map_max_entries("BULK", ring_size(options.bulk_ring_bytes))
        .override_global("UNWATCHED_PER_SECOND", &options.unwatched_per_second, true)
        .override_global("PROBER", &options.prober, true)
        .override_global(aya_log::LEVEL, log_level, true);
    for (name, value) in &resolved.globals {
        loader.override_global(name, value, true);
    }
}

/// The kernel wants a power of two that is a multiple of the page size. The largest pages have 64 KiB.
fn ring_size(bytes: u32) -> u32 {
    bytes.clamp(64 * 1024, 1 << 30).next_power_of_two()
}

fn permission_or_object(error: EbpfError) -> LoadError {
    if let EbpfError::MapError(MapError::CreateError { io_error, .. }) = &error
        && io_error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let missing = vec![
            "permission for the bpf system call (a seccomp filter, a user namespace or lockdown denies it)",
        ];
        return LoadError::NotPermitted { missing };
    }
    LoadError::Object(error)
}

fn map<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, LoadError> {
    let missing = || MapError::InvalidName { name: name.to_owned() };
    ebpf.take_map(name)
        .ok_or_else(missing)
        .and_then(T::try_from)
        .map_err(|source| LoadError::Map { name, source })
}

fn ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    map(ebpf, name)
}
