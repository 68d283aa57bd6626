//! What the kernel has only so many of: processes, open files, tracked connections, neighbours, local ports.
//!
//! The network's numbers are those of the daemon's own network namespace.

use std::ops::RangeInclusive;

use super::{ProcReader, read_text};
use crate::fact::Share;

/// Each of these files is a line or two.
const SMALL: u64 = 64 * 1024;

impl ProcReader {
    /// Processes and threads of the host. In a container these are still those of the host, and `pid_max` is not: since Linux
    /// 6.14 a pid namespace has one of its own (`kernel/pid.c`).
    pub fn tasks(&self) -> Option<Share> {
        let load = self.small("loadavg")?;
        let used = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
        let limit = |name: &str| self.number(&format!("sys/kernel/{name}"));
        let pids = limit("pid_max").filter(|_| self.is_in_initial_pid_namespace() != Some(false));
        let most = [pids, limit("threads-max")].into_iter().flatten().min()?;
        Some(Share { used, most })
    }

    pub fn host_open_files(&self) -> Option<Share> {
        let text = self.small("sys/fs/file-nr")?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        Some(Share { used: numbers.next()?.ok()?, most: numbers.nth(1)?.ok()? })
    }

    /// None without connection tracking.
    pub fn tracked_connections(&self) -> Option<Share> {
        let used = self.number("sys/net/netfilter/nf_conntrack_count")?;
        Some(Share { used, most: self.number("sys/net/netfilter/nf_conntrack_max")? })
    }

    /// The neighbour tables of IPv4 (`arp_cache`) and IPv6 (`ndisc_cache`). Only the initial network namespace shows their
    /// limits.
    pub fn neighbours(&self) -> Vec<(&'static str, Share)> {
        let table = |family: &str, name: &'static str| {
            let most = self.number(&format!("sys/net/{family}/neigh/default/gc_thresh3"))?;
            let text = self.small(&format!("net/stat/{name}"))?;
            // A line for each CPU, and the number of entries is the same in all.
            let line = text.lines().nth(1)?;
            let used = u64::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok()?;
            Some((name, Share { used, most }))
        };
        [table("ipv4", "arp_cache"), table("ipv6", "ndisc_cache")].into_iter().flatten().collect()
    }

    /// The local ports that the kernel chooses from.
    pub fn local_ports(&self) -> Option<RangeInclusive<u16>> {
        let text = self.small("sys/net/ipv4/ip_local_port_range")?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
    }

    /// TCP sockets, with those that only wait for late packets.
    pub fn tcp_sockets(&self) -> u64 {
        let of = |file: &str, line: &str| {
            let text = self.small(file).unwrap_or_default();
            let found = text.lines().find_map(|it| it.strip_prefix(line)).map(str::to_owned);
            let words: Vec<String> =
                found.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
            let number = |name: &str| {
                let at = words.iter().position(|word| word == name)?;
                words.get(at + 1)?.parse::<u64>().ok()
            };
            number("inuse").unwrap_or(0).saturating_add(number("tw").unwrap_or(0))
        };
        of("net/sockstat", "TCP:").saturating_add(of("net/sockstat6", "TCP6:"))
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.small(file)?.trim().parse().ok()
    }

    pub(super) fn small(&self, file: &str) -> Option<String> {
        read_text(&self.proc().join(file), SMALL).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn each_share_is_of_the_smallest_limit_that_applies() {
        let host = FakeHost::v2();
        let reader = host.reader();
        assert_eq!(
            (reader.tasks(), reader.host_open_files(), reader.tracked_connections()),
            (None, None, None)
        );
        assert!(reader.neighbours().is_empty() && reader.local_ports().is_none());
        assert_eq!(reader.tcp_sockets(), 0);
        host.write("proc/loadavg", b"0.5 0.4 0.3 2/1234 9876\n");
        host.write("proc/sys/kernel/pid_max", b"4194304\n");
        host.write("proc/sys/kernel/threads-max", b"2000\n");
        host.write("proc/sys/fs/file-nr", b"937\t0\t2466170\n");
        host.write("proc/sys/net/netfilter/nf_conntrack_count", b"7\n");
        host.write("proc/sys/net/netfilter/nf_conntrack_max", b"8\n");
        host.write("proc/sys/net/ipv4/neigh/default/gc_thresh3", b"1024\n");
        host.write("proc/net/stat/arp_cache", b"entries  allocs\n000003ff 1\n000003ff 2\n");
        host.write("proc/sys/net/ipv4/ip_local_port_range", b"32768\t60999\n");
        host.write("proc/net/sockstat", b"sockets: used 22\nTCP: inuse 3 orphan 0 tw 2 alloc 3 mem 0\n");
        host.write("proc/net/sockstat6", b"TCP6: inuse 4\nUDP6: inuse 9\n");
        assert_eq!(reader.tasks(), Some(Share { used: 1234, most: 2000 }));
        assert_eq!(reader.host_open_files(), Some(Share { used: 937, most: 2_466_170 }));
        assert_eq!(reader.tracked_connections(), Some(Share { used: 7, most: 8 }));
        assert_eq!(reader.neighbours(), [("arp_cache", Share { used: 1023, most: 1024 })]);
        assert_eq!(reader.local_ports(), Some(32_768..=60_999));
        assert_eq!(reader.tcp_sockets(), 9);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let host = FakeHost::v2();
        for text in ["", "\n", "x", "1", "1 2", "0.1 0.2 0.3 5 6", "-1 -1 -1", "99999999999999999999999 1 2"]
        {
            for file in [
                "loadavg",
                "sys/fs/file-nr",
                "sys/net/ipv4/ip_local_port_range",
                "net/sockstat",
                "net/stat/arp_cache",
            ] {
                host.write(&format!("proc/{file}"), text.as_bytes());
            }
            let reader = host.reader();
            assert_eq!(
                (reader.tasks(), reader.neighbours().len(), reader.tcp_sockets()),
                (None, 0, 0),
                "{text}"
            );
            assert!(reader.local_ports().is_none() || text.starts_with('1'), "{text}");
        }
    }
}
