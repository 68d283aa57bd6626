//! Users of NATS as an operator with accounts has them: JWTs that nkeys sign (NATS JWT, version 2).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::permissions;

/// An operator with one account for the fleet.
pub struct Operator {
    key: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operator")
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self { key: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }
}

impl Operator {
    /// What a server that trusts it has in its configuration.
    pub fn configuration(&self) -> String {
        let operator = token(&self.key, &self.key.public_key(), "operator", json!({ "type": "operator" }));
        let account = |key: &KeyPair, name: &str, jetstream: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "mem_storage": jetstream, "disk_storage": jetstream, "streams": jetstream, "consumer": jetstream,
            });
            token(&self.key, &key.public_key(), name, json!({ "type": "account", "limits": limits }))
        };
        let (fleet, system) = (self.account.public_key(), self.system.public_key());
        format!(
            "operator: {operator}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload {{\n{fleet}: {}\n{system}: {}\n}}",
            account(&self.account, "fleet", -1),
            account(&self.system, "system", 0),
        )
    }

    /// The credentials of a host with the permissions of docs/fleet.md, as they are in a file.
    ///
    /// # Panics
    /// If a key cannot be made.
    pub fn credentials(&self, name: &str, addresses: &[&str], may_create: bool) -> String {
        let user = KeyPair::new_user();
        let (publish, subscribe) = permissions(name, addresses, may_create);
        let claims = json!({
            "type": "user", "subs": -1, "data": -1, "payload": -1,
            "pub": { "allow": publish }, "sub": { "allow": subscribe },
        });
        let token = token(&self.account, &user.public_key(), name, claims);
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n\
             ------END USER NKEY SEED------\n",
            user.seed().expect("a new key has a seed")
        )
    }
}

fn token(issuer: &KeyPair, subject: &str, name: &str, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let body = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name, "sub": subject, "nats": claims,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(&body));
    let signature = issuer.sign(signed.as_bytes()).expect("a new key signs");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
