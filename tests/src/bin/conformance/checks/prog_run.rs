//! Runs a loaded program with arguments that this kernel would not pass to it.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;

/// All loaded programs of this name, by id.
pub fn named(name: &str) -> Result<Vec<(u32, OwnedFd)>> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        // Another process may unload its program meanwhile.
        let Ok(program) = program else { continue };
        // The kernel keeps 15 bytes of a name.
        if program.name() == &name.as_bytes()[..name.len().min(15)]
            && let Ok(descriptor) = program.fd()
        {
            found.push((program.id(), descriptor.as_fd().try_clone_to_owned()?));
        }
    }
    Ok(found)
}

/// The one of this process. Others have theirs attached to the same tracepoint.
pub fn own(name: &str) -> Result<OwnedFd> {
    let mut own = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")?.flatten() {
        // The descriptor of the folder itself is closed by then.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
        own.extend(id);
    }
    let found = named(name)?.into_iter().find(|(id, _)| own.contains(id));
    found.map(|(_, program)| program).with_context(|| format!("this process has no program {name} loaded"))
}

/// Runs the program on this CPU.
pub fn run(program: &OwnedFd, arguments: &[u64]) -> Result<()> {
    const BPF_PROG_RUN: libc::c_int = 10;
    // The part of `union bpf_attr` for this command, as words: `prog_fd`, `ctx_size_in` and `ctx_in` are what matters.
    let mut request = [0_u32; 20];
    request[0] = program.as_raw_fd().cast_unsigned();
    request[10] = u32::try_from(size_of_val(arguments))?;
    let address = arguments.as_ptr().expose_provenance() as u64;
    (request[12], request[13]) = (address as u32, (address >> 32) as u32);
    // SAFETY: the request and the arguments that it points to live through the call and are as long as it says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_RUN, request.as_mut_ptr(), size_of_val(&request)) };
    ensure!(result == 0, "cannot run the program: {}", std::io::Error::last_os_error());
    Ok(())
}
