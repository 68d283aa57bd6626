//! From a server's greeting to a session: the first packets of a connection.

use mysql_common::{
    crypto,
    scramble::{scramble_native, scramble_sha256},
};

use super::{
    failure::Error,
    wire::{Fields, Wire},
};
use crate::config::MysqlAccount;

/// So many packets at most are exchanged at a login: a change of the plugin, and a public key.
const EXCHANGES: usize = 8;

/// The longest public key that is used, which has 4096 bits. Encrypting with it takes a millisecond.
const KEY_MAX: usize = 1024;

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";

/// What both sides of a connection are able to do.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const CONNECT_ATTRS: u32 = 1 << 20;
}

/// `utf8mb4_general_ci`.
const COLLATION: u8 = 45;

/// The greeting that a server sends on connect.
#[derive(Debug)]
pub(super) struct Greeting {
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Greeting {
    pub(super) async fn read(wire: &mut Wire) -> Result<Self, Error> {
        let packet = wire.read().await?;
        Self::parse(&packet).ok_or(Error::Malformed("no greeting of a MySQL server"))
    }

    pub(super) const fn offers_tls(&self) -> bool {
        self.capabilities & capability::SSL != 0
    }

    /// Whether a packet is a greeting, which begins with the version of the protocol.
    pub(super) fn is(packet: &[u8]) -> bool {
        packet.first() == Some(&10)
    }

    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        fields.byte().filter(|_| Self::is(packet))?;
        fields.until_zero();
        // The number of the connection.
        fields.bytes(4)?;
        let mut nonce = fields.bytes(8)?.to_vec();
        fields.byte()?;
        let low = u32::from(fields.u16()?);
        // Collation and status.
        fields.bytes(3)?;
        let capabilities = low | u32::from(fields.u16()?) << 16;
        let length = usize::from(fields.byte()?);
        fields.bytes(10)?;
        if capabilities & capability::SECURE_CONNECTION != 0 {
            // Its last byte is a zero.
            let rest = fields.bytes(length.saturating_sub(8).max(13))?;
            nonce.extend(rest.iter().take(12));
        }
        let plugin = String::from_utf8_lossy(fields.until_zero()).into_owned();
        Some(Self { capabilities, nonce, plugin })
    }
}

/// What a login is sent over.
#[derive(Clone, Copy)]
pub(super) struct Line {
    /// Others on the way can read it.
    pub(super) is_open: bool,
    pub(super) is_encrypted: bool,
}

/// Logs in to the server that greeted.
pub(super) async fn log_in_after(
    greeting: &Greeting,
    wire: &mut Wire,
    account: &MysqlAccount,
    line: Line,
) -> Result<(), Error> {
    let wanted = capability::PROTOCOL_41 | capability::SECURE_CONNECTION;
    if greeting.capabilities & wanted != wanted {
        return Err(Error::Malformed("the greeting of a server older than MySQL 4.1"));
    }
    let password = account.password.as_bytes();
    let (mut plugin, mut nonce) = (greeting.plugin.clone(), greeting.nonce.clone());
    // What a server says of other plugins, it says in the change to them.
    if plugin != CACHING {
        NATIVE.clone_into(&mut plugin);
    }
    let proof_of_password = proof(&plugin, password, &nonce);
    wire.write(&response(account, greeting, &plugin, &proof_of_password, line.is_encrypted)).await?;
    for _ in 0..EXCHANGES {
        let packet = wire.read().await?;
        match packet.as_slice() {
            [0x00, ..] => return Ok(()),
            [0xfe, change @ ..] => {
                let mut fields = Fields(change);
                plugin = String::from_utf8_lossy(fields.until_zero()).into_owned();
                nonce = fields.until_zero().to_vec();
                let proof = if [NATIVE, CACHING].contains(&plugin.as_str()) {
                    proof(&plugin, password, &nonce)
                } else {
                    Vec::new()
                };
                wire.write(&proof).await?;
                if ![NATIVE, CACHING].contains(&plugin.as_str()) {
                    // The server counts a login that is broken off as an error of this host, and a refused one not.
                    let _ = wire.read().await;
                    return Err(Error::UnknownPlugin(plugin));
                }
            }
            // The server knows the password's hash, and says next that all is well.
            [0x01, 0x03, ..] => {}
            // It does not, and asks for the password itself.
            [0x01, 0x04, ..] if line.is_open => wire.write(&[0x02]).await?,
            [0x01, 0x04, ..] => wire.write(&[password, &[0]].concat()).await?,
            [0x01, key @ ..] => {
                let hidden = encrypted(password, &nonce, key).await?;
                wire.write(&hidden).await?;
            }
            _ => break,
        }
    }
    Err(Error::Malformed("no answer to a login"))
}

/// What shows the server that the password is known.
fn proof(plugin: &str, password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let proof = if plugin == CACHING {
        scramble_sha256(nonce, password).map(Vec::from)
    } else {
        scramble_native(nonce, password).map(Vec::from)
    };
    proof.unwrap_or_default()
}

/// The beginning of a login, which alone asks for TLS.
fn header(capabilities: u32) -> Vec<u8> {
    let mut packet = capabilities.to_le_bytes().to_vec();
    // The longest packet of this side, the collation, and 23 bytes that are reserved.
    packet.extend((1_u32 << 20).to_le_bytes());
    packet.push(COLLATION);
    packet.extend([0; 23]);
    packet
}

/// Asks the server that greeted for TLS.
pub(super) fn ssl_request(greeting: &Greeting) -> Vec<u8> {
    let wanted = capability::LONG_PASSWORD
        | capability::PROTOCOL_41
        | capability::SSL
        | capability::TRANSACTIONS
        | capability::SECURE_CONNECTION
        | capability::PLUGIN_AUTH
        | capability::CONNECT_ATTRS;
    header(greeting.capabilities & wanted)
}

fn response(
    account: &MysqlAccount,
    greeting: &Greeting,
    plugin: &str,
    proof: &[u8],
    is_encrypted: bool,
) -> Vec<u8> {
    let with_database = if account.database.is_empty() { 0 } else { capability::CONNECT_WITH_DB };
    let capabilities = greeting.capabilities
        & (capability::LONG_PASSWORD
            | capability::PROTOCOL_41
            | capability::TRANSACTIONS
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::CONNECT_ATTRS
            | if is_encrypted { capability::SSL } else { 0 }
            | with_database);
    let mut packet = header(capabilities);
    packet.extend(account.user.bytes().chain([0]));
    packet.push(u8::try_from(proof.len()).unwrap_or_default());
    packet.extend(proof);
    if capabilities & capability::CONNECT_WITH_DB != 0 {
        packet.extend(account.database.bytes().chain([0]));
    }
    if capabilities & capability::PLUGIN_AUTH != 0 {
        packet.extend(plugin.bytes().chain([0]));
    }
    if capabilities & capability::CONNECT_ATTRS != 0 {
        let attribute = b"\x0cprogram_name\x09hostprobe";
        packet.push(attribute.len() as u8);
        packet.extend(attribute);
    }
    packet
}

/// The password, for the owner of this key only.
async fn encrypted(password: &[u8], nonce: &[u8], key: &[u8]) -> Result<Vec<u8>, Error> {
    if key.len() > KEY_MAX || nonce.is_empty() {
        return Err(Error::Malformed("no public key"));
    }
    let mask = nonce.iter().cycle();
    let hidden: Vec<u8> = password.iter().chain(&[0]).zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let key = key.to_vec();
    // The library panics at a wrong key, which ends the task of its own and nothing else.
    let encrypted = tokio::task::spawn_blocking(move || crypto::encrypt(&hidden, &key)).await;
    encrypted.map_err(|_| Error::Malformed("a public key that is none"))
}
