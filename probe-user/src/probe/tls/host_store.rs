//! The host's store of certificates, which all probes share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::verify::{Trusted, trusting};
use crate::{
    bounded_thread,
    file_stamp::{Stamps, stamp},
    probe::progress::Waiting,
};

/// How long the store is taken to be as it was: a probe looks whether it has changed once this time is over.
const FRESH: Duration = Duration::from_secs(10);

/// The latest state of the store. It is read for the first probe that needs it: a host has more than a hundred CA
/// certificates, and most probes need none. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct HostStore(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    checked: Instant,
    stamps: Stamps,
    trusted: Result<Arc<Trusted>, String>,
}

impl HostStore {
    /// Has it read on a thread of its own, so that the first run need not.
    pub(super) fn prepare(&self) {
        let store = self.clone();
        let started = bounded_thread::start("ca store", move || {
            if let Err(error) = store.read_if_changed() {
                tracing::warn!("probes over TLS will fail: {error}");
            }
        });
        if let Err(error) = started {
            tracing::warn!(
                "the host's CA certificates are read with the first probe that needs them: {error}"
            );
        }
    }

    pub(super) async fn trusted(&self, waiting: &Waiting) -> Result<Arc<Trusted>, String> {
        let known = self.known();
        if let Some(known) = known.filter(|known| known.checked.elapsed() < FRESH) {
            return known.trusted;
        }
        let store = self.clone();
        let answer = waiting.for_files("the host's CA certificates", move || store.read_if_changed()).await;
        answer.unwrap_or_else(|error| Err(format!("the host's CA certificates cannot be loaded: {error}")))
    }

    fn known(&self) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It may block.
    fn read_if_changed(&self) -> Result<Arc<Trusted>, String> {
        let places = openssl_probe::probe();
        let places = places.cert_file.iter().chain(&places.cert_dir);
        let stamps: Stamps = places.map(|path| stamp(path)).collect();
        let unchanged = self.known().filter(|known| known.stamps == stamps && known.trusted.is_ok());
        let trusted = unchanged.map_or_else(read, |known| known.trusted);
        let known = Known { checked: Instant::now(), stamps, trusted: trusted.clone() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        trusted
    }
}

fn read() -> Result<Arc<Trusted>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(format!("the host's CA certificates cannot be loaded: {why}"));
    }
    Ok(Arc::new(trusting(found.certs)))
}
