//! Breaks a small real stack in turn and shows what hostprobe makes of it. `cargo xtask demo` builds and runs it.
//!
//! Exit status 0 if every verdict and action came as expected, 1 if one did not, 3 if a part is missing.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostprobe_tests::demo::run()
}
