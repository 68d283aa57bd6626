//! hostprobe: sees services die in the kernel, says why, brings them back, and reports it.

pub mod act;
pub mod clock;
pub mod config;
pub mod emit;
pub mod fact;
pub mod serve;
