//! Options that have a secret as their value in spite of a harmless name.

use self::Value::{Attached, Either, Separate};

/// What a word says about secrets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The next word is one.
    Next(Kind),
    /// The rest of the word is one, from this byte.
    From(usize),
}

/// Which part of a value is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    /// `NAME:PASSWORD`.
    AfterColon,
}

impl Kind {
    /// The start of the secret in a value, if it has one.
    pub(super) fn start(self, value: &str) -> Option<usize> {
        match self {
            Self::Whole => Some(0),
            Self::AfterColon => {
                // `://` belongs to a URL, whose secret has a place of its own.
                let colon = value.find(':').filter(|at| !value[*at..].starts_with("://"))?;
                (colon + 1 < value.len()).then_some(colon + 1)
            }
        }
    }
}

/// How an option is followed by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// `-pPASSWORD`; after a space follows something else.
    Attached,
    /// `-p PASSWORD`.
    Separate,
    /// Both.
    Either,
}

/// Programs, and their options with a secret.
#[rustfmt::skip]
const PROGRAM_OPTIONS: [(&[&str], &str, Value); 18] = [
    // After a space follows the name of a database.
    (&["mysql", "mysqld", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck"], "-p", Attached),
    (&["mariadb", "mariadb-dump", "mariadb-admin", "mariadb-check", "mariadb-import"], "-p", Attached),
    (&["mysqlsh", "mysqlshow", "mysqlslap", "mysqlbinlog", "mysqlpump", "mycli", "innobackupex"], "-p", Attached),
    (&["mariadb-backup", "mariabackup", "xtrabackup", "mariadb-show", "mariadb-slap"], "-p", Attached),
    (&["mongoimport", "mongostat", "mongotop", "mongofiles", "mysqld_exporter", "pt-query-digest"], "-p", Either),
    (&["curl"], "-b", Either),
    (&["curl"], "--cookie", Separate),
    (&["redis-cli", "valkey-cli", "redis-benchmark", "valkey-benchmark"], "-a", Separate),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport"], "-p", Either),
    // Also the ports of `docker run`.
    (&["docker", "podman", "buildah", "skopeo", "helm", "az", "oc"], "-p", Separate),
    (&["7z", "7za", "7zr", "unrar", "rar"], "-p", Attached),
    (&["zip", "unzip", "sqlcmd", "bcp", "ipmitool", "mosquitto_pub", "mosquitto_sub"], "-P", Either),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami"], "-w", Either),
    (&["smbclient", "rpcclient", "winexe", "wmic"], "-U", Either),
    (&["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk"], "-c", Either),
    (&["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk"], "-A", Either),
    (&["openssl"], "-passin", Separate),
    (&["openssl"], "-passout", Separate),
];

/// Options of many programs with a value of the form `NAME:PASSWORD`.
const USER_OPTIONS: [&str; 8] =
    ["-u", "-U", "--user", "--username", "--proxy-user", "--proxy-auth", "--auth", "--login"];

/// The program that a word names, if it has options in the table.
pub(super) fn program(word: &str) -> Option<&str> {
    let word = word.trim_matches(['"', '\'', '`', '(', ')', ';', '&', '|', '$']);
    let name = &word[word.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1)..];
    let first = *name.as_bytes().first()?;
    // Most words differ from all names in their length or their first letter.
    let has_length =
        LENGTHS[usize::from(first)].checked_shr(name.len() as u32).is_some_and(|lengths| lengths & 1 == 1);
    let is_known = || PROGRAM_OPTIONS.iter().any(|(programs, ..)| programs.contains(&name));
    (has_length && is_known()).then_some(name)
}

/// For each byte, the lengths of the names of programs that begin with it, a bit each.
const LENGTHS: [u32; 256] = {
    let (mut lengths, mut row) = ([0; 256], 0);
    while row < PROGRAM_OPTIONS.len() {
        let (programs, mut column) = (PROGRAM_OPTIONS[row].0, 0);
        while column < programs.len() {
            let name = programs[column].as_bytes();
            lengths[name[0] as usize] |= 1 << name.len();
            column += 1;
        }
        row += 1;
    }
    lengths
};

/// What a word of a program's command line announces.
pub(super) fn announced(program: &str, word: &str) -> Option<Announced> {
    if !word.starts_with('-') {
        return None;
    }
    for (programs, option, value) in PROGRAM_OPTIONS {
        if program.is_empty() || !word.starts_with(option) || !programs.contains(&program) {
            continue;
        }
        match (word.len() > option.len(), value) {
            (true, Attached | Either) => return Some(Announced::From(option.len())),
            (false, Separate | Either) => return Some(Announced::Next(Kind::Whole)),
            (true, Separate) | (false, Attached) => {}
        }
    }
    if USER_OPTIONS.contains(&word) {
        return Some(Announced::Next(Kind::AfterColon));
    }
    let attached = match word.split_once('=') {
        Some((option, _)) if USER_OPTIONS.contains(&option) => option.len() + 1,
        // `-uNAME:PASSWORD`.
        _ if word.starts_with("-u") || word.starts_with("-U") => 2,
        _ => return None,
    };
    Kind::AfterColon.start(&word[attached..]).map(|from| Announced::From(attached + from))
}
