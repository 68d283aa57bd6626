//! The time that eBPF programs take, as the kernel counts it.
//!
//! The kernel reads its clock before and after each run, and its figures include about one of the readings. What an empty
//! program is said to take, [`Empty`], is therefore the least that can be measured.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::{AddAssign, Sub},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use aya::sys::{Stats, enable_stats};

use crate::soak::maps::bpf;

/// `BPF_PROG_LOAD` and `BPF_RAW_TRACEPOINT_OPEN` of `linux/bpf.h`, and the type `BPF_PROG_TYPE_RAW_TRACEPOINT`.
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const RAW_TRACEPOINT: u64 = 17;

/// While it lives, the kernel counts: the same as `sysctl kernel.bpf_stats_enabled=1`, but over when its process is.
#[derive(Debug)]
pub struct Counting(#[expect(dead_code, reason = "it is closed when it is dropped")] OwnedFd);

impl Counting {
    pub fn begin() -> Result<Self> {
        Ok(Self(enable_stats(Stats::RunTime).context("the kernel does not count what eBPF programs take")?))
    }
}

/// What programs have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How often they ran.
    pub runs: u64,
    /// How long all runs took, nanoseconds.
    pub nanoseconds: u64,
}

impl Taken {
    /// A run, in the mean; nanoseconds, 0 if there was none.
    pub fn mean(self) -> f64 {
        self.per(self.runs)
    }

    /// So much for each of so many, nanoseconds; 0 for none.
    pub fn per(self, number: u64) -> f64 {
        if number == 0 { 0.0 } else { self.nanoseconds as f64 / number as f64 }
    }
}

impl Sub for Taken {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { runs: self.runs - earlier.runs, nanoseconds: self.nanoseconds - earlier.nanoseconds }
    }
}

impl AddAssign for Taken {
    fn add_assign(&mut self, more: Self) {
        self.runs += more.runs;
        self.nanoseconds += more.nanoseconds;
    }
}

/// What the programs of a process have taken, by the tracepoint they are attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs(BTreeMap<String, Taken>);

impl Programs {
    /// Of the process with this pid, so far.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        let mut taken = BTreeMap::new();
        let mut hooks = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            // One that was closed meanwhile is no program of its any more.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|value| value.trim().to_owned())
            };
            let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
            let Some(id) = number("prog_id") else { continue };
            if let (Some(runs), Some(nanoseconds)) = (number("run_cnt"), number("run_time_ns")) {
                taken.insert(id, Taken { runs, nanoseconds });
            }
            if let Some(hook) = field("tp_name") {
                hooks.insert(id, hook);
            }
        }
        // Links of other kinds do not say to what; the programs' own ids do for them.
        let hook = |id: u64| hooks.get(&id).cloned().unwrap_or_else(|| id.to_string());
        Ok(Self(taken.into_iter().map(|(id, taken)| (hook(id), taken)).collect()))
    }

    /// What they have taken since.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let of = |(hook, taken): (&String, &Taken)| {
            (hook.clone(), *taken - earlier.0.get(hook).copied().unwrap_or_default())
        };
        Self(self.0.iter().map(of).collect())
    }

    pub fn at(&self, tracepoint: &str) -> Taken {
        self.0.get(tracepoint).copied().unwrap_or_default()
    }

    /// All of them together.
    pub fn all(&self) -> Taken {
        let mut all = Taken::default();
        self.0.values().for_each(|taken| all += *taken);
        all
    }
}

/// A program that does nothing, attached to a raw tracepoint.
#[derive(Debug)]
pub struct Empty {
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    /// Attaches one; [`Programs::of`] this process tells what it takes.
    pub fn attach(tracepoint: &str) -> Result<Self> {
        // r0 = 0; exit
        let instructions: [u64; 2] = [0xb7, 0x95];
        let license = c"GPL";
        let mut load = [0_u64; 9];
        load[0] = RAW_TRACEPOINT | (instructions.len() as u64) << 32;
        load[1] = instructions.as_ptr() as u64;
        load[2] = license.as_ptr() as u64;
        let program = owned(bpf(PROG_LOAD, &mut load)).context("an empty program cannot be loaded")?;
        let name = std::ffi::CString::new(tracepoint)?;
        let mut open = [name.as_ptr() as u64, u64::from(program.as_raw_fd().cast_unsigned())];
        let link = owned(bpf(RAW_TRACEPOINT_OPEN, &mut open))
            .with_context(|| format!("an empty program cannot be attached to {tracepoint}"))?;
        Ok(Self { _program: program, _link: link })
    }
}

fn owned(descriptor: io::Result<i32>) -> io::Result<OwnedFd> {
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    descriptor.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
}
