//! The addresses of this host that others may reach it by.

use std::{collections::BTreeSet, net::IpAddr};

/// The most addresses that a host claims.
const ADDRESSES_MAX: usize = 16;

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

/// Those of a host's addresses that are usable, at most [`ADDRESSES_MAX`].
pub(super) fn usable(addresses: BTreeSet<IpAddr>) -> Vec<IpAddr> {
    addresses.into_iter().filter(|address| is_usable(*address)).take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_many_hosts_have_are_left_out() {
        let all = ["127.0.0.1", "169.254.1.1", "10.9.0.1", "::1", "fe80::a", "fd00::1", "0.0.0.0"];
        let all = all.map(|address| address.parse::<IpAddr>().unwrap());
        let expected: [IpAddr; 2] = [[10, 9, 0, 1].into(), "fd00::1".parse().unwrap()];
        assert_eq!(usable(BTreeSet::from(all)), expected);
    }

    #[test]
    fn so_many_are_claimed_at_most() {
        let many = (0..100).map(|last| IpAddr::from([10, 9, 0, last])).collect();
        assert_eq!(usable(many).len(), ADDRESSES_MAX);
    }
}
