//! The host's own addresses, and the network namespaces of processes.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use super::{ProcReader, read_text};

/// A host with thousands of addresses has tables of some hundred kilobytes.
const TABLE_MAX: u64 = 4 << 20;

/// The addresses of this host's interfaces in the daemon's own network namespace. An unreadable file adds none.
pub fn own_addresses(proc: &Path) -> BTreeSet<IpAddr> {
    let net = proc.join("net");
    let v4 = read_text(&net.join("fib_trie"), TABLE_MAX).unwrap_or_default();
    // A kernel without IPv6 has no such file.
    let v6 = read_text(&net.join("if_inet6"), TABLE_MAX).unwrap_or_default();
    routed(&v4).chain(v6.lines().filter_map(interface)).collect()
}

impl ProcReader {
    /// See [`own_addresses`].
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        own_addresses(self.proc())
    }

    pub fn netns(&self, pid: u32) -> Option<u32> {
        let target = fs::read_link(self.folder(pid).join("ns/net")).ok()?;
        target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    }
}

/// The addresses in the routing table that lead to the host itself: a line with the address, then a line with its kind.
fn routed(table: &str) -> impl Iterator<Item = IpAddr> {
    let lines = table.lines().map(str::trim);
    lines.clone().zip(lines.skip(1)).filter_map(|(leaf, kind)| {
        let address = leaf.strip_prefix("|-- ")?;
        (kind == "/32 host LOCAL").then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?
    })
}

/// The address in a line of `/proc/net/if_inet6`, which begins with 32 hexadecimal digits.
fn interface(line: &str) -> Option<IpAddr> {
    let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
    Some(IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn the_addresses_of_interfaces_are_found() {
        let host = FakeHost::v2();
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n        |-- 127.0.0.1\n           /32 host LOCAL\n        \
                     |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.7\n           \
                     /32 host LOCAL\n        |-- garbage\n           /32 host LOCAL\n        |-- 192.0.2.255";
        host.write("proc/net/fib_trie", table.as_bytes());
        host.write("proc/net/if_inet6", b"fd000000000000000000000000000002 04 40 00 82 eth0\nshort 1\n");
        let expected =
            ["127.0.0.1", "192.0.2.7", "fd00::2"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(host.reader().addresses(), BTreeSet::from(expected));
    }

    #[test]
    fn a_host_that_shows_nothing_has_no_addresses() {
        assert_eq!(FakeHost::v2().reader().addresses(), BTreeSet::new());
        assert_eq!(FakeHost::v2().reader().netns(10), None);
    }

    #[test]
    fn the_real_host_has_a_loopback_address_and_a_namespace() {
        let reader = ProcReader::new("/").unwrap();
        assert!(reader.addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(reader.netns(std::process::id()).is_some());
    }
}
