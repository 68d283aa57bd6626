//! TLS of a probe.

use std::{ops::Range, time::Duration};

use rustls::pki_types::ServerName;

use super::value::{absolute, time};
use crate::{
    config::{
        error::Findings,
        mysql::MysqlAddress,
        postgres::PostgresAddress,
        secret::Secret,
        spanned::Spanned,
        tls::{TlsIdentity, TlsKeys, TlsMode, TlsOptions},
        values::{At, Table, quote},
    },
    fact::ProbeKind,
};

const HOUR: Duration = Duration::from_secs(3600);

/// TLS as it is written; None if the probe has no `tls`.
pub(super) fn tls(written: &At<Table<TlsKeys>>, found: &mut Findings) -> Option<TlsOptions> {
    let written = written.as_ref()?;
    let Table(keys) = written.get_ref();
    Some(options(keys, written.span(), found))
}

/// TLS by keys that are at `place`.
pub(super) fn options(keys: &TlsKeys, place: Range<usize>, found: &mut Findings) -> TlsOptions {
    let mut file = |file: &At<String>, holds: &str| {
        let expected = format!("the absolute path of a file that holds {holds} in PEM");
        file.as_ref().and_then(|file| absolute(file, &expected, found))
    };
    let ca_file = file(&keys.ca_file, "certificates");
    let cert = file(&keys.cert, "a certificate");
    let key = file(&keys.key, "a private key");
    match (&keys.cert, &keys.key) {
        (Some(cert), None) => {
            found.error(cert.span(), "`cert` without `key`; expected the file of its private key")
        }
        (None, Some(key)) => {
            found.error(key.span(), "`key` without `cert`; expected the file of its certificate")
        }
        _ => {}
    }
    let server_name = keys.server_name.as_ref().and_then(|name| {
        let text = name.get_ref();
        if ServerName::try_from(text.as_str()).is_err() {
            let message = format!("found {}; expected a host name or an IP address", quote(text));
            found.error(name.span(), message);
            return None;
        }
        Some(text.clone())
    });
    let insecure = keys.insecure.as_ref().is_some_and(|insecure| *insecure.get_ref());
    if insecure {
        let at = keys.insecure.as_ref().map_or(place, Spanned::span);
        found.warn(
            at,
            "with `insecure`, any server that answers is trusted: name its certificates by `ca_file`",
        );
    }
    if let Some(ca_file) = keys.ca_file.as_ref().filter(|_| insecure) {
        found.warn(ca_file.span(), "with `insecure`, `ca_file` is not used");
    }
    TlsOptions {
        ca_file,
        identity: cert.zip(key).map(|(cert, key)| TlsIdentity { cert, key }),
        server_name,
        insecure,
        expires_within: time(&keys.expires_within, "expires_within", HOUR..=24 * 3650 * HOUR, found),
    }
}

/// Complains about a `tls` that an address does not go with.
pub(super) fn tls_fits(
    kind: ProbeKind,
    target: &Secret,
    options: &TlsOptions,
    place: Range<usize>,
    found: &mut Findings,
) {
    let target = target.expose();
    let mode = match kind {
        ProbeKind::Postgres => PostgresAddress::parse(target).ok().and_then(|address| address.tls.mode),
        ProbeKind::Mysql => MysqlAddress::parse(target).ok().and_then(|address| address.tls.mode),
        ProbeKind::Http
        | ProbeKind::Redis
        | ProbeKind::Tcp
        | ProbeKind::Unix
        | ProbeKind::Udp
        | ProbeKind::Exec
        | ProbeKind::Grpc
        | ProbeKind::Dns
        | ProbeKind::Icmp
        | ProbeKind::Heartbeat => None,
    };
    let encrypted = match kind {
        ProbeKind::Http => target.starts_with("https:").then_some(()).ok_or("an https:// address"),
        ProbeKind::Grpc => target.starts_with("grpcs:").then_some(()).ok_or("a grpcs:// address"),
        ProbeKind::Redis => target.starts_with("rediss:").then_some(()).ok_or("a rediss:// address"),
        ProbeKind::Postgres
            if PostgresAddress::parse(target).is_ok_and(|address| address.socket().is_some()) =>
        {
            Err("the address of a host")
        }
        ProbeKind::Postgres | ProbeKind::Mysql if mode == Some(TlsMode::Disable) => {
            Err("an address that does not turn TLS off")
        }
        ProbeKind::Postgres
        | ProbeKind::Mysql
        | ProbeKind::Tcp
        | ProbeKind::Unix
        | ProbeKind::Udp
        | ProbeKind::Exec
        | ProbeKind::Dns
        | ProbeKind::Icmp
        | ProbeKind::Heartbeat => Ok(()),
    };
    if let Err(expected) = encrypted {
        found.error(place, format!("`tls` beside an address without TLS; expected {expected}"));
    } else if options.insecure && matches!(mode, Some(TlsMode::VerifyCa | TlsMode::VerifyFull)) {
        found.error(
            place,
            "`insecure` beside an address that asks to verify the certificate; expected one of them",
        );
    }
}
