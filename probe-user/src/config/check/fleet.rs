//! The fleet: its servers, files and addresses.

use std::net::IpAddr;

use super::value::{absolute, whole};
use crate::config::{
    error::Findings,
    fleet::{Fleet, FleetKeys},
    spanned::Spanned,
    values::{At, Size, Table, Text, quote},
};

/// Two segments of the spool, so that one can be sent while the other is written.
const SPOOL_LEAST: u64 = 2 << 20;
const SPOOL_MOST: u64 = 64 << 30;
const SPOOL: u64 = 64 << 20;

/// The fleet as it is written; None if it is not configured.
pub(super) fn fleet(written: &At<Table<FleetKeys>>, found: &mut Findings) -> Option<Fleet> {
    let written = written.as_ref()?;
    let (place, Table(keys)) = (written.span(), written.get_ref());
    let name = keys.name.as_ref().and_then(|name| host_name(name, found));
    let mut file = |file: &At<String>, holds: &str| {
        let expected = format!("the absolute path of a file that holds {holds}");
        file.as_ref().and_then(|file| absolute(file, &expected, found))
    };
    let credentials_file = file(&keys.credentials_file, "the credentials of this host");
    let ca_file = file(&keys.ca_file, "certificates in PEM");
    let keys_file = file(&keys.keys_file, "a host and its public nkey a line");
    let sign = keys.sign.as_ref().is_some_and(|sign| *sign.get_ref());
    if let (Some(at), None) = (keys.sign.as_ref().filter(|_| sign), &keys.credentials_file) {
        found.error(at.span(), "`sign` without `credentials_file`; expected the file of its nkey");
    }
    let replicas = whole(&keys.replicas, "replicas", 1..=5, found).unwrap_or(1);
    let addresses = keys.addresses.as_ref().map_or_else(Vec::new, |written| addresses(written, found));
    let spool = keys.spool.as_ref().and_then(|size| spool(size, found)).unwrap_or(SPOOL);
    let Some(nats) = &keys.nats else {
        found.error(place, "a fleet without a server; expected `nats = \"tls://…\"`");
        return None;
    };
    let servers = nats.get_ref().0.clone();
    if servers.is_empty() {
        found.error(nats.span(), "`nats` is empty; expected at least one server");
        return None;
    }
    if servers.iter().any(|server| !server.is_tls) {
        found.warn(
            nats.span(),
            "what hosts publish goes over `nats://` without TLS: everyone on the way can read and change it",
        );
    }
    Some(Fleet { servers, credentials_file, ca_file, name, addresses, sign, keys_file, replicas, spool })
}

fn host_name(name: &Spanned<String>, found: &mut Findings) -> Option<String> {
    let text = name.get_ref();
    let is_right = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !is_right {
        let message = format!(
            "found {}; expected a name of 1 to 64 letters (A-Z, a-z), digits, hyphens and underscores",
            quote(text)
        );
        found.error(name.span(), message);
    }
    is_right.then(|| text.clone())
}

fn addresses(written: &Spanned<Vec<Spanned<String>>>, found: &mut Findings) -> Vec<IpAddr> {
    if !(1..=16).contains(&written.get_ref().len()) {
        found.error(written.span(), "expected from 1 to 16 addresses");
    }
    let mut addresses = Vec::new();
    for address in written.get_ref() {
        match address.get_ref().parse::<IpAddr>() {
            Ok(parsed) if !parsed.is_loopback() && !parsed.is_unspecified() && !parsed.is_multicast() => {
                addresses.push(parsed.to_canonical());
            }
            Ok(_) | Err(_) => {
                let message = format!(
                    "found {}; expected an IP address by which other hosts reach this one",
                    quote(address.get_ref())
                );
                found.error(address.span(), message);
            }
        }
    }
    addresses
}

fn spool(size: &Spanned<Text<Size>>, found: &mut Findings) -> Option<u64> {
    let Text(Size(bytes)) = *size.get_ref();
    if (SPOOL_LEAST..=SPOOL_MOST).contains(&bytes) {
        return Some(bytes);
    }
    found.error(size.span(), format!("`spool` is {bytes} bytes; expected from 2MiB to 64GiB"));
    None
}
