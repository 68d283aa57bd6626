//! Command lines by argument: a secret is a whole argument, or the rest of one, whatever characters it has.

use super::{
    HIDDEN, is_scheme_word, is_secret_name, keyed_value, known,
    option::{self, Announced, Kind},
    redact,
};

/// A command line as one text, from its arguments and without their secrets.
pub fn arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let mut shown = Vec::new();
    let mut program = "";
    let mut next: Option<Kind> = None;
    for argument in arguments {
        let announced = std::mem::take(&mut next);
        if let Some(named) = option::program(argument) {
            program = named;
        }
        if let Some(kind) = announced.filter(|_| !is_option(argument)) {
            // `Authorization: Bearer X` without quotes is three arguments.
            if is_scheme_word(argument) {
                next = announced;
                shown.push(argument.to_owned());
                continue;
            }
            if let Some(from) = kind.start(argument) {
                shown.push(format!("{}{HIDDEN}", known::hide(&argument[..from])));
                continue;
            }
        }
        let (text, announced) = without_secret(program, argument);
        next = announced;
        shown.push(text);
    }
    shown.join(" ")
}

/// An argument without its secret, and what it announces of the next one.
fn without_secret(program: &str, argument: &str) -> (String, Option<Kind>) {
    let hidden_from = |from: usize| (format!("{}{HIDDEN}", redact(&argument[..from])), None);
    match option::announced(program, argument) {
        Some(Announced::Next(kind)) => return (known::hide(argument).into_owned(), Some(kind)),
        Some(Announced::From(from)) => return hidden_from(from),
        None => {}
    }
    let sign = argument.find(['=', ':']).unwrap_or(argument.len());
    let (name, value) = argument.split_at(sign);
    // `--token`, `NAME=VALUE` and `Header: VALUE`. Behind the name, all of the argument is the value.
    // A value may follow a short option without a space: `-HCookie: VALUE`.
    let attached =
        name.strip_prefix('-').filter(|rest| !rest.starts_with('-')).and_then(|rest| rest.get(1..));
    if (is_secret_name(name.trim_start_matches('-')) || attached.is_some_and(is_secret_name))
        && !name.contains(char::is_whitespace)
        && !value.starts_with("://")
    {
        let value = value.trim_start_matches(['=', ':', ' ']);
        if !value.is_empty() {
            return hidden_from(argument.len() - value.len());
        }
        // A bare word, such as the name of a table, is no option.
        if name.starts_with('-') || sign < argument.len() {
            return (known::hide(argument).into_owned(), Some(Kind::Whole));
        }
    }
    let has_parts = argument.contains("://")
        || argument.contains(char::is_whitespace)
        || argument.starts_with(['{', '[', '?', '&']);
    if !has_parts && let Some(from) = keyed_value(argument).filter(|from| *from < argument.len()) {
        return hidden_from(from);
    }
    (redact(argument).into_owned(), None)
}

/// Whether an argument is an option rather than the value of the one before it.
fn is_option(argument: &str) -> bool {
    let name = argument.split('=').next().unwrap_or_default();
    match name.strip_prefix("--") {
        Some(word) => word.starts_with(|c: char| c.is_ascii_lowercase()),
        None => name.len() == 2 && name.starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn a_secret_argument_is_hidden_whole() {
        for (line, shown) in [
            (&["gpg", "--passphrase", "S12 S13tail", "-c"][..], "gpg --passphrase *** -c"),
            (&["gpg", "--passphrase=S12 S13, 'tail", "-c"], "gpg --passphrase=*** -c"),
            (&["curl", "--user", "NAME:P W", "http://h/"], "curl --user NAME:*** http://h/"),
            (&["curl", "-uNAME:PW&x", "h"], "curl -uNAME:*** h"),
            (&["curl", "--user=NAME:PW", "h"], "curl --user=NAME:*** h"),
            (&["mysql", "-u", "root", "-pP W", "db"], "mysql -u root -p*** db"),
            (&["sudo", "-E", "/usr/bin/mysqldump", "-pPW", "db"], "sudo -E /usr/bin/mysqldump -p*** db"),
            (&["env", "PGPASSWORD=x y,z", "psql"], "env PGPASSWORD=*** psql"),
            (&["redis-cli", "-a", "-P W", "ping"], "redis-cli -a *** ping"),
            (&["app", "--token", "a b", "--db-password=c&d;e", "x"], "app --token *** --db-password=*** x"),
            (&["curl", "-H", "Authorization: Bearer a b", "h"], "curl -H Authorization: *** h"),
            (&["curl", "-H", "X-Api-Key: a, b", "h"], "curl -H X-Api-Key: *** h"),
            (&["curl", "-HCookie: a=b; c=d", "h"], "curl -HCookie: *** h"),
            (&["curl", "-H", "Authorization:", "Bearer", "abc"], "curl -H Authorization: Bearer ***"),
            (&["app", "postgres://u:pw@h/d"], "app postgres://u:***@h/d"),
            (&["app", "h?token=a&page=2"], "app h?token=***"),
            (&["app", "http://h/?token=a&page=2"], "app http://h/?token=***&page=2"),
            (&["docker", "run", "-e", "MYSQL_PWD=a b", "-u", "1000"], "docker run -e MYSQL_PWD=*** -u 1000"),
            (&["docker", "run", "--env=MYSQL_PWD=a,b"], "docker run --env=MYSQL_PWD=***"),
            (&["sh", "-c", "mysql -pPW db; curl -u a:b h"], "sh -c mysql -p*** db; curl -u a:*** h"),
            (&["sshpass", "-p", "a b", "ssh", "h"], "sshpass -p *** ssh h"),
            (&["openssl", "enc", "-passin", "pass:a b"], "openssl enc -passin ***"),
            (&["keytool", "-storepass", "a b", "-list"], "keytool -storepass *** -list"),
            (&["java", "-Dspring.datasource.password=a,b"], "java -Dspring.datasource.password=***"),
        ] {
            assert_eq!(arguments(line.iter().copied()), shown);
            assert_eq!(super::redact(shown), shown, "hiding twice is hiding once");
        }
    }

    #[test]
    fn harmless_arguments_are_left_alone() {
        for line in [
            &["nginx", "-p", "/srv", "-c", "nginx.conf"][..],
            &["mysql", "-u", "root", "-p", "db"],
            &["app", "--user", "www-data", "--password-file", "/etc/pw", "--port", "80"],
            &["app", "--password", "--port", "80"],
            &["cat", "password", "tokens.txt"],
            &["git", "-c", "a.b=c", "fetch", "ssh://git@host/x"],
            &["", "", "x"],
            &[],
        ] {
            assert_eq!(arguments(line.iter().copied()), line.join(" "));
        }
    }

    #[test]
    fn the_name_of_an_option_may_be_a_secret_of_the_configuration() {
        super::super::remember(["kR5-in-the-name".to_owned()]);
        let encoded: String = "kR5-in-the-name".bytes().map(|byte| format!("%{byte:02X}")).collect();
        for secret in ["kR5-in-the-name", &encoded] {
            let shown = super::arguments([format!("-{secret}pw").as_str(), "value"]);
            assert_eq!(shown, "-***pw ***");
        }
    }
}
