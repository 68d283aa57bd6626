//! Signatures of messages by the nkeys of hosts (Ed25519), for operators who do not trust their NATS servers.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use nkeys::{KeyPair, KeyPairType};

/// The most hosts whose keys are known.
const KEYS_MAX: usize = 100_000;

/// Why a signature is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the file of keys has no key of this host")]
    Unknown,
    #[error("it is not signed by the key of its host")]
    Wrong,
}

/// The nkey of this host.
#[derive(Clone)]
pub(super) struct Signer(Arc<KeyPair>);

impl Signer {
    /// From what a credentials file holds. The error says what is wrong.
    pub(super) fn of_credentials(text: &str) -> Result<Self, String> {
        let seed = seed(text).ok_or("the credentials hold no seed of an nkey, which signatures take")?;
        KeyPair::from_seed(seed)
            .map(|pair| Self(Arc::new(pair)))
            .map_err(|error| format!("the seed is no nkey: {error}"))
    }

    pub(super) fn sign(&self, signed: &Signed<'_>) -> Option<String> {
        self.0.sign(&signed.bytes()).ok().map(|bytes| STANDARD_NO_PAD.encode(bytes))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// The seed of a user's nkey in a file of credentials, or alone in the text.
pub(super) fn seed(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| line.starts_with("SU") && line.len() == 58)
}

/// The public keys of hosts.
#[derive(Debug)]
pub(super) struct Keys(BTreeMap<String, String>);

impl Keys {
    /// From a text with a host and its key a line.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_whitespace();
            let (Some(host), key) = (words.next().filter(|word| !word.starts_with('#')), words.next()) else {
                continue;
            };
            let key = key.filter(|key| {
                KeyPair::from_public_key(key)
                    .is_ok_and(|key| matches!(key.key_pair_type(), KeyPairType::User))
            });
            let Some(key) = key.filter(|_| words.next().is_none()) else {
                return Err(format!(
                    "line {number}: expected a host and its public nkey, such as `db-1 UAB…`"
                ));
            };
            keys.insert(host.to_owned(), key.to_owned());
            if keys.len() > KEYS_MAX {
                return Err(format!("it has more than {KEYS_MAX} keys"));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn verify(&self, host: &str, signed: &Signed<'_>, signature: &str) -> Result<(), SignError> {
        let key = self.0.get(host).ok_or(SignError::Unknown)?;
        let key = KeyPair::from_public_key(key).map_err(|_| SignError::Unknown)?;
        let signature = STANDARD_NO_PAD.decode(signature).map_err(|_| SignError::Wrong)?;
        key.verify(&signed.bytes(), &signature).map_err(|_| SignError::Wrong)
    }
}

/// What is signed: a message of one subject says nothing under another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'m> {
    pub subject: &'m str,
    pub sequence: u64,
    pub body: &'m [u8],
}

impl Signed<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {}\n", self.subject, self.sequence).into_bytes();
        bytes.extend_from_slice(self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_if_its_host_signed_it_for_its_subject() {
        let pair = KeyPair::new_user();
        let signer = Signer::of_credentials(&pair.seed().unwrap()).unwrap();
        let keys = Keys::read(&format!("# hosts\n\ndb-1 {}\n", pair.public_key())).unwrap();
        let right = Signed { subject: "s.db-1", sequence: 3, body: b"{}" };
        let signature = signer.sign(&right).unwrap();
        assert!(keys.verify("db-1", &right, &signature).is_ok());
        for wrong in [
            Signed { subject: "s.web", ..right },
            Signed { sequence: 4, ..right },
            Signed { body: b"{ }", ..right },
        ] {
            assert!(keys.verify("db-1", &wrong, &signature).is_err(), "{wrong:?}");
        }
        assert!(keys.verify("web", &right, &signature).is_err());
        assert!(keys.verify("db-1", &right, "-").is_err());
    }

    #[test]
    fn a_file_of_keys_of_another_form_is_refused() {
        let key = KeyPair::new_user().public_key();
        let account = KeyPair::new_account().public_key();
        for text in ["db-1", "db-1 UXYZ", &format!("db-1 {key} more"), &format!("db-1 {account}")] {
            assert!(Keys::read(text).is_err(), "{text}");
        }
        assert!(Signer::of_credentials("no seed").is_err());
    }
}
