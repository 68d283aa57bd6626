//! What the daemon can see of the host: the hooks that are attached, and what stands in for the others.

pub mod ebpf;
pub mod fallback;
pub mod record;
mod wake;

use crate::{
    fact::HookCoverage,
    host::ProcReader,
    sensor::{
        ebpf::{Hook, Kernel, Options},
        fallback::FallbackSensor,
    },
};

/// Everything that tells of what happens.
pub struct Sensors {
    /// The eBPF programs; None if none is attached.
    pub kernel: Option<Kernel>,
    /// What reports instead of those that are missing.
    pub fallback: FallbackSensor,
    /// Hook by hook.
    pub coverage: Vec<HookCoverage>,
}

impl Sensors {
    /// Attaches what can be attached, and opens what stands in for the rest.
    ///
    /// Fails only if the process has no descriptors left: whatever else is missing costs its coverage.
    pub fn open(options: &Options, reader: &ProcReader) -> std::io::Result<Self> {
        let (kernel, hooks) = match Kernel::load(options) {
            Ok(kernel) => {
                let hooks = kernel.coverage().to_vec();
                (Some(kernel), hooks)
            }
            Err(error) => (None, nothing(&error)),
        };
        let missing: Vec<Hook> = hooks.iter().filter(|it| !it.attached).map(|it| it.hook).collect();
        let fallback = FallbackSensor::open(&missing, reader, options.unwatched_per_second)?;
        let coverage: Vec<HookCoverage> = hooks
            .into_iter()
            .map(|it| HookCoverage {
                hook: it.hook.tracepoint(),
                missing: (!it.attached).then(|| it.reason.unwrap_or_else(|| "unknown".to_owned())),
                stand_in: fallback.instead_of(it.hook).map(str::to_owned),
                // What it would lack says nothing where it is missing.
                lacking: if it.attached { it.lacking } else { Vec::new() },
            })
            .collect();
        Ok(Self { kernel, coverage, fallback })
    }
}

/// The hooks where nothing could be attached, each with its own reason if it has one.
fn nothing(error: &ebpf::KernelError) -> Vec<ebpf::HookCoverage> {
    if let ebpf::KernelError::NoHook(hooks) = error {
        return hooks.clone();
    }
    let reason = error.to_string();
    let hook = |hook| ebpf::HookCoverage {
        hook,
        attached: false,
        reason: Some(reason.clone()),
        lacking: Vec::new(),
    };
    Hook::ALL.map(hook).to_vec()
}
