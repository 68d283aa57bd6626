//! Removes secrets from texts that other programs wrote: command lines and error messages.
//!
//! It finds secrets of the configuration by their values, and others by the text before them (`password=`, `--token`,
//! `Bearer`), by their place in a URL, and by the options of programs that take a password. It rather hides a harmless
//! word than shows a secret.

mod argument;
mod decoded;
mod known;
mod option;

use std::borrow::Cow;

pub use self::{
    argument::arguments,
    known::{SHORTEST_SECRET, remember},
};
use self::{
    known::HIDDEN,
    option::{Announced, Kind},
};

/// The text without its secrets; each is replaced by `***`.
pub fn redact(text: &str) -> Cow<'_, str> {
    match known::hide(text) {
        Cow::Borrowed(text) => by_context(text),
        Cow::Owned(text) => Cow::Owned(by_context(&text).into_owned()),
    }
}

/// The same for bytes, of which some may be no text. Escaped or cut bytes would not show what they hold: this comes first.
pub fn redact_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    for chunk in known::hide_in_bytes(bytes).utf8_chunks() {
        shown.extend_from_slice(by_context(chunk.valid()).as_bytes());
        shown.extend_from_slice(chunk.invalid());
    }
    shown
}

/// The text without what looks like a secret.
fn by_context(text: &str) -> Cow<'_, str> {
    if !may_announce_secret(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out: Option<String> = None;
    let mut shown = 0;
    let mut scan = Scan { text, at: 0, program: "", hide_next: None };
    while let Some((start, end)) = scan.next_secret() {
        let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
        out.push_str(&text[shown..start]);
        out.push_str(HIDDEN);
        shown = end;
    }
    match out {
        Some(mut out) => {
            out.push_str(&text[shown..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(text),
    }
}

/// Whether a text has a sign, an option or a scheme that can announce a secret. Most texts have none: then their words need
/// no look.
fn may_announce_secret(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(at, byte)| match byte {
        b'=' | b':' | b'@' => true,
        // The dash of `api-gateway` begins no option.
        b'-' => {
            !text[..at].last().is_some_and(|before| before.is_ascii_alphanumeric() || b"-_".contains(before))
        }
        b'b' | b'B' => {
            text[at..].get(..BEARER.len()).is_some_and(|word| word.eq_ignore_ascii_case(BEARER.as_bytes()))
        }
        _ => false,
    })
}

/// The scheme of `Authorization: Bearer TOKEN`, which some programs print alone.
const BEARER: &str = "bearer";

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// The last program with secret options that was named, such as `mysql` in `sudo mysql -pPASSWORD`.
    program: &'a str,
    /// What the previous word announced.
    hide_next: Option<Kind>,
}

impl Scan<'_> {
    /// The start and end of the next secret.
    fn next_secret(&mut self) -> Option<(usize, usize)> {
        loop {
            let rest = &self.text[self.at..];
            let start = self.at + rest.find(|c: char| !c.is_whitespace())?;
            let word = &self.text[start..];
            let end = start + word.find(char::is_whitespace).unwrap_or(word.len());
            let found = self.secret_in(start, end);
            match found {
                Some((_, until)) => self.at = until.max(start + 1),
                None => self.at = end,
            }
            if found.is_some() {
                return found;
            }
        }
    }

    /// The secret in a word, or in the rest of one.
    fn secret_in(&mut self, start: usize, end: usize) -> Option<(usize, usize)> {
        let word = &self.text[start..end];
        // MySQL reports whether there was a password, not which: `(using password: YES)`.
        let said = matches!(word, "YES)" | "NO)");
        if let Some(kind) = self.hide_next.take()
            && !word.starts_with('-')
            && !said
        {
            if is_scheme_word(word) {
                self.hide_next = Some(kind);
                return None;
            }
            if let Some(from) = kind.start(word) {
                let from = start + from;
                return Some((from, self.value_end(from, end)));
            }
        }
        if let Some(program) = option::program(word) {
            self.program = program;
        }
        if !may_announce_secret(word.as_bytes()) {
            return None;
        }
        match option::announced(self.program, word) {
            Some(Announced::Next(kind)) => self.hide_next = Some(kind),
            Some(Announced::From(from)) => return Some((start + from, end)),
            None => {}
        }
        if word.contains('@')
            && let Some((from, to)) = url_secret(word)
        {
            return Some((start + from, start + to));
        }
        if let Some(value) = keyed_value(word) {
            let from = start + value;
            if from == end || is_scheme_word(&self.text[from..end]) {
                self.hide_next = Some(Kind::Whole);
                return None;
            }
            return Some((from, self.value_end(from, end)));
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        if bare.eq_ignore_ascii_case(BEARER)
            || (bare.starts_with('-') && is_secret_name(bare.trim_start_matches('-')))
        {
            self.hide_next = Some(Kind::Whole);
        }
        None
    }

    /// The end of the value that begins at `from`: its closing quote, or the end of its word or query parameter.
    fn value_end(&self, from: usize, end: usize) -> usize {
        let value = &self.text[from..end];
        match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let rest = &self.text[from + 1..];
                rest.find(quote).map_or(end, |close| from + 1 + close + 1)
            }
            _ => from + value.find(['&', '"', '\'', ';', ',', ')', '}']).unwrap_or(value.len()),
        }
    }
}

/// `Authorization: Bearer X`: the scheme, before the secret itself.
fn is_scheme_word(word: &str) -> bool {
    [BEARER, "basic"].iter().any(|scheme| word.trim_matches(['"', '\'']).eq_ignore_ascii_case(scheme))
}

/// The start of the value in a word of the form `name=value` or `name:value` with a secret's name.
fn keyed_value(word: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = word[from..].find(['=', ':']) {
        let sign = from + found;
        from = sign + 1;
        let name = word[..sign].trim_end_matches(['"', '\'']);
        let begin = name.rfind(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c));
        let name = &name[begin.map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8))..];
        // Not `token:` in `token://…`, which is a scheme.
        if is_secret_name(name.trim_start_matches('-')) && !word[from..].starts_with("//") {
            return Some(from);
        }
    }
    None
}

/// Whether a value of this name is a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    #[rustfmt::skip]
    const ANYWHERE: [&str; 15] = [
        "password", "passwd", "passphrase", "passcode", "secret", "credential", "apikey", "privatekey", "accesskey",
        "encryptionkey", "signingkey", "masterkey", "authkey", "sharedkey", "sessionid",
    ];
    const ENDING: [&str; 5] = ["token", "pass", "pwd", "pw", "masterauth"];
    const WHOLE: [&str; 9] =
        ["pwd", "pw", "pass", "token", "auth", "authorization", "pgpassword", "cookie", "bearer"];
    const NOT_THE_VALUE: [&str; 5] = ["file", "path", "stdin", "prompt", "name"];
    let is_any =
        |part: &[u8], words: &[&str]| words.iter().any(|word| part.eq_ignore_ascii_case(word.as_bytes()));
    let mut parts = name.as_bytes().rsplit(|byte| b"-_.".contains(byte));
    if parts.clone().next().is_some_and(|last| is_any(last, &NOT_THE_VALUE)) {
        return false;
    }
    let mut joined = String::with_capacity(name.len());
    joined.extend(
        name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| char::from(byte.to_ascii_lowercase())),
    );
    ANYWHERE.iter().any(|secret| joined.contains(secret))
        || ENDING.iter().any(|secret| joined.ends_with(secret)) && joined != "bypass"
        || parts.any(|part| is_any(part, &WHOLE))
}

/// Whether the value of this name in the query of a URL is a secret.
pub(crate) fn is_secret_parameter(name: &str) -> bool {
    const ANYWHERE: [&str; 2] = ["key", "token"];
    const WHOLE: [&str; 5] = ["sig", "signature", "code", "session", "sid"];
    let lower = name.to_ascii_lowercase();
    is_secret_name(name)
        || ANYWHERE.iter().any(|word| lower.contains(word))
        || lower.split(['-', '_', '.']).any(|part| WHOLE.contains(&part))
}

/// The start and end of the secret in a URL's user part: the text after the first colon of `user:password@`, or, over
/// HTTP, a user without a password, which then is the secret.
fn url_secret(word: &str) -> Option<(usize, usize)> {
    let Some(scheme_end) = word.find("://") else { return login_secret(word) };
    let from = scheme_end + 3;
    let rest = &word[from..];
    let rest = &rest[..rest.find(['"', '\'', '>', '<']).unwrap_or(rest.len())];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user_info, at) = match authority.rfind('@') {
        Some(at) => (&authority[..at], at),
        None => {
            // A password may hold a slash that should have been escaped; a port is a number.
            let (_, after) = authority.split_once(':')?;
            let port = !after.is_empty() && after.bytes().all(|digit| digit.is_ascii_digit());
            let at = rest.rfind('@').filter(|_| !port)?;
            (&rest[..at], at)
        }
    };
    let begin = match user_info.find(':') {
        Some(colon) => colon + 1,
        None if word[..scheme_end].to_ascii_lowercase().contains("http") => 0,
        None => return None,
    };
    // Text that is already hidden stays.
    (begin < at && &rest[begin..at] != HIDDEN).then_some((from + begin, from + at))
}

/// The start and end of the password in a login without a scheme: `user:password@host`, as `curl` and Go's database
/// drivers take it.
fn login_secret(word: &str) -> Option<(usize, usize)> {
    let at = word.rfind('@')?;
    let host = &word[at + 1..];
    // An image is named `name:tag@sha256:…`.
    if !host.starts_with(|c: char| c.is_alphanumeric() || "[(/".contains(c)) || host.starts_with("sha256:") {
        return None;
    }
    let colon = word[..at].find(':')?;
    let is_user = |c: char| c.is_alphanumeric() || "_.-+%\\".contains(c);
    let user = word[..colon].trim_end_matches(is_user);
    let is_login = user.is_empty() || user.ends_with(['=', '"', '\'', '`', '(', ',', ';', '<']);
    let begin = colon + 1;
    (is_login && begin < at && &word[begin..at] != HIDDEN).then_some((begin, at))
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn secrets_are_hidden_wherever_they_are_named() {
        for (text, shown) in [
            ("app --password hunter2 --port 80", "app --password *** --port 80"),
            ("app --password=hunter2 x", "app --password=*** x"),
            ("app --db-password 'two words' x", "app --db-password *** x"),
            ("PGPASSWORD=x psql", "PGPASSWORD=*** psql"),
            ("app --api_key=abc --api-key def", "app --api_key=*** --api-key ***"),
            ("app --accessToken abc", "app --accessToken ***"),
            ("java -Dspring.datasource.password=abc Main", "java -Dspring.datasource.password=*** Main"),
            ("got {\"token\": \"abc\", \"user\": \"u\"}", "got {\"token\": ***, \"user\": \"u\"}"),
            ("got {\"secret\":\"a b\",\"user\":\"u\"}", "got {\"secret\":***,\"user\":\"u\"}"),
            (
                "curl -H 'Authorization: Bearer abc' http://h/",
                "curl -H 'Authorization: Bearer ***' http://h/",
            ),
            ("GET /x?token=abc&page=2 failed", "GET /x?token=***&page=2 failed"),
            ("postgres://u:pw@db/x", "postgres://u:***@db/x"),
            ("redis://:p@ss@h:6379", "redis://:***@h:6379"),
            ("redis://:pa/ss@h", "redis://:***@h"),
            ("https://ghp_abc@github.com/x", "https://***@github.com/x"),
            ("two a://u:p@h b://v:q@i", "two a://u:***@h b://v:***@i"),
            ("docker run -e MYSQL_PWD=abc x", "docker run -e MYSQL_PWD=*** x"),
            ("curl -H X-Api-Key: abc h", "curl -H X-Api-Key: *** h"),
            ("sshpass -p abc ssh h", "sshpass -p *** ssh h"),
            ("ERR wrong password: 'a b' given", "ERR wrong password: *** given"),
            ("mysql -uroot -phunter2 db", "mysql -uroot -p*** db"),
            ("/usr/bin/redis-cli -a pw ping", "/usr/bin/redis-cli -a *** ping"),
            ("password authentication failed", "password authentication failed"),
            (
                "redis-server --requirepass abc --masterauth def",
                "redis-server --requirepass *** --masterauth ***",
            ),
            ("app --dbpass=abc --smtp-pwd def DBPWD=ghi", "app --dbpass=*** --smtp-pwd *** DBPWD=***"),
            ("app root:pw@tcp(db:3306)/x?a=b", "app root:***@tcp(db:3306)/x?a=b"),
            ("DSN=root:p:w@tcp(db)/x app", "DSN=root:***@tcp(db)/x app"),
            ("curl u:p@h/ 'v:q@i'", "curl u:***@h/ 'v:***@i'"),
            ("cannot open u:p/w@unix(/run/db.sock)/x", "cannot open u:***@unix(/run/db.sock)/x"),
            ("REDIS_PW=x app --pw y --db-pw=z", "REDIS_PW=*** app --pw *** --db-pw=***"),
            ("curl --oauth2-bearer T h", "curl --oauth2-bearer *** h"),
            ("it sent (BEARER abc def", "it sent (BEARER *** def"),
            ("unknown option '-token' abc", "unknown option '-token' ***"),
            ("curl -b session=abc -H x h", "curl -b *** -H x h"),
            ("curl -bsession=abc --cookie a=b h", "curl -b*** --cookie *** h"),
            ("app --encryption-key K --signing_key=L", "app --encryption-key *** --signing_key=***"),
            ("mysqlsh -pPW db && mycli -pPW db", "mysqlsh -p*** db && mycli -p*** db"),
            ("mysqld_exporter -p PW", "mysqld_exporter -p ***"),
            ("mongostat -p PW --port 1", "mongostat -p *** --port 1"),
        ] {
            assert_eq!(redact(text), shown);
            assert_eq!(redact(shown), shown, "hiding twice is hiding once");
        }
    }

    #[test]
    fn harmless_texts_are_left_alone() {
        for text in [
            "nginx -p /srv -c nginx.conf",
            "Access denied for user 'u'@'h' (using password: YES)",
            "app --bypass cache --compass-file x",
            "app --password-file /etc/pw --tokenizer bpe --max-tokens 9",
            "http://127.0.0.1:8080/health?email=a@b",
            "ssh://git@host/x",
            "git clone git@host:x/y",
            "rsync u@h:/x /y",
            "docker run nginx:1.25@sha256:abc",
            "mail to a@b: refused",
            "mysqlsh -p db",
            "curl --key k.pem --cert c.pem",
            "connect to 127.0.0.1:80: Connection refused (os error 111)",
            "é: ü=ö",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
