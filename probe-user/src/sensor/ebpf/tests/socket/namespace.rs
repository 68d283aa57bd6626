//! A network namespace whose only route drops all packets.

use super::*;

/// Runs on a thread in a network namespace with the address 192.0.2.1/24 on an interface that drops all packets.
fn in_a_black_hole<T: Send + 'static>(test: &str, run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let test = test.to_owned();
    let thread = thread::spawn(move || {
        // SAFETY: takes one number; a thread may leave its network namespace at any time, and no other is affected.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace needs root");
        for arguments in [
            "link add hole type veth peer name other",
            "address add 192.0.2.1/24 dev hole",
            "link set other up",
            "link set hole up",
            // The other end has another hardware address, so it drops the packets.
            "neighbor add 192.0.2.9 lladdr 02:00:00:00:00:09 dev hole",
        ] {
            match Command::new("/sbin/ip").args(arguments.split(' ')).status() {
                Ok(status) => assert!(status.success(), "ip {arguments}"),
                Err(_) if std::env::var_os("CI").is_none() => {
                    eprintln!("skipped {test}: needs iproute2");
                    return None;
                }
                Err(error) => panic!("{test}: needs iproute2: {error}"),
            }
        }
        Some(run())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Connects with the fewest retries possible and returns the error.
fn connect(remote: SocketAddr) -> Option<i32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    // The timeout comes after seconds instead of two minutes.
    let (retries, size) = (1_i32, libc::socklen_t::try_from(size_of::<i32>()).unwrap());
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the value is an int that lives through the call, as this option wants.
    let set = unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_SYNCNT, (&raw const retries).cast(), size)
    };
    assert_eq!(set, 0);
    rustix::net::connect(&socket, &remote).err().map(rustix::io::Errno::raw_os_error)
}

/// The kernel's own count of retransmitted SYNs, in the thread's namespace.
fn retransmitted() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    names.zip(values).find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

#[test]
fn a_timeout_has_its_owner_and_its_retries_are_counted() {
    let test = "a_timeout_has_its_owner_and_its_retries_are_counted";
    let Some(mut fixture) = watching(test) else { return };
    let remote: SocketAddr = "192.0.2.9:5432".parse().unwrap();
    let run = move || (connect(remote), retransmitted());
    let Some((outcome, retransmitted)) = in_a_black_hole(test, run) else { return };
    assert_eq!(outcome, Some(libc::ETIMEDOUT));
    let error = fixture.wait_for("timeout", error_at(remote));
    assert_eq!((error.errno, error.transition), (110, Some((TcpState::SynSent, TcpState::Close))));
    assert_eq!(error.owner.unwrap().pid, std::process::id());
    let age = error.at_ns - error.since_ns.unwrap();
    assert!(age > 500_000_000, "{age} ns");
    let own = crate::host::ProcReader::new("/").unwrap().netns(std::process::id());
    assert!(error.netns.is_some() && error.netns != own);

    let mut again = |seconds: u64| {
        let now = error.at_ns + seconds * 1_000_000_000;
        let all = fixture.sensor.retransmits(now);
        all.into_iter().find(|it| it.remote == remote)
    };
    let first = again(1).unwrap();
    assert!(retransmitted > 0);
    assert_eq!((first.owner.pid, first.count), (std::process::id(), retransmitted));
    assert_eq!(first.owner.start_ns, error.owner.unwrap().start_ns);
    assert_eq!((again(5), again(15)), (None, None), "reported retransmits are not reported again");
}
