//! The addresses of this host that others may reach it by.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// The most addresses that a host claims.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Whether an address can belong to one host of a fleet: loopback, link-local and unspecified ones are on many.
pub(super) fn is_usable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast())
        }
    }
}

/// The usable addresses of the daemon's network namespace, at most [`ADDRESSES_MAX`].
pub(super) fn read(proc: &Path) -> Vec<IpAddr> {
    let text = |file: &str| fs::read_to_string(proc.join(file)).unwrap_or_default();
    let v4 = of_trie(&text("self/net/fib_trie")).into_iter().map(IpAddr::V4);
    let mut all: Vec<IpAddr> = v4.chain(of_interfaces(&text("self/net/if_inet6")).map(IpAddr::V6)).collect();
    all.retain(|address| is_usable(*address));
    all.sort_unstable();
    all.dedup();
    all.truncate(ADDRESSES_MAX);
    all
}

/// A line with the address goes before one with `/32 host LOCAL` (`fib_trie_seq_show` in net/ipv4/fib_trie.c).
fn of_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut latest: Option<Ipv4Addr> = None;
    for line in text.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            latest = address.trim().parse().ok();
        } else if line.trim() == "/32 host LOCAL" {
            found.extend(latest);
        }
    }
    found
}

/// The address in 32 digits, the interface's number, the length of the prefix, the scope, flags and the interface's name
/// (`if6_seq_show` in net/ipv6/addrconf.c).
fn of_interfaces(text: &str) -> impl Iterator<Item = Ipv6Addr> {
    text.lines().filter_map(|line| {
        let digits = line.split_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_kernels_tables() {
        let proc = tempfile::tempdir().unwrap();
        let net = proc.path().join("self/net");
        fs::create_dir_all(&net).unwrap();
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.9.0.1\n        /32 host LOCAL\n     |-- 10.9.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        fs::write(net.join("fib_trie"), trie).unwrap();
        let v6 = "00000000000000000000000000000001 01 80 10 80 lo\nfe80000000000000000000000000000a 02 40 20 80 eth0\nfd000000000000000000000000000001 02 40 00 80 eth0\n";
        fs::write(net.join("if_inet6"), v6).unwrap();
        let expected: Vec<IpAddr> = vec![[10, 9, 0, 1].into(), "fd00::1".parse().unwrap()];
        assert_eq!(read(proc.path()), expected);
    }
}
