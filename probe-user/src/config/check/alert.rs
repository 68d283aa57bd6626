//! Receivers of alerts: one address each, with the options of that receiver only.

use std::{net::IpAddr, ops::Range, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use lettre::message::Mailbox;
use reqwest::Url;

use super::{
    address::address,
    http::{Filled, fill, hidden, is_secret_header, secrets_of},
    outside::Outside,
    tls,
    value::{absolute, time},
};
use crate::config::{
    address::{AddressForm, Wrong},
    alert::{AlertFormat, AlertKeys, AlertReceiver, AlertRoute, AlertTlsKeys, MailOptions},
    error::{Findings, listed},
    file,
    hook::matches,
    protocol, read,
    secret::Secret,
    spanned::Spanned,
    template::Template,
    tls::{TlsKeys, TlsOptions},
    values::{At, Table, Text, quote},
};
use crate::fact::Severity;

/// A week: who looks later reads the history.
const AFTER: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

/// Reminders that come faster are noise, and receivers limit their rate.
const REMIND: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);

/// Headers that the requests need to be as they are.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

const IN_FILE: &str = "this file contains a secret, and others may read it: take their right away (chmod 600), or use \
                       ${NAME}";

/// The receivers as far as they are valid, in the order of the file.
pub(super) fn receivers(
    written: &[Spanned<Table<AlertKeys>>],
    services: &[Spanned<Table<file::Service>>],
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Vec<AlertReceiver> {
    for (at, entry) in written.iter().enumerate() {
        let Some(name) = &entry.get_ref().0.name else { continue };
        let earlier = written[..at].iter().filter_map(|other| other.get_ref().0.name.as_ref());
        if let Some(other) = earlier.into_iter().find(|other| other.get_ref() == name.get_ref()) {
            let message = format!(
                "another receiver is named {} already; expected a name of its own",
                quote(name.get_ref())
            );
            found.error_of_two(name.span(), other.span().start, message);
        }
    }
    written.iter().filter_map(|entry| receiver(entry, services, outside, found)).collect()
}

fn receiver(
    entry: &Spanned<Table<AlertKeys>>,
    services: &[Spanned<Table<file::Service>>],
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<AlertReceiver> {
    let place = entry.span();
    let Table(keys) = entry.get_ref();
    let (written, format) = one_address(keys, place.clone(), found)?;
    options_fit(keys, format, found);
    let name = name(keys, found);
    let route = route(keys, services, found);
    let token = token(&keys.token, &keys.token_file, "token", outside, found);
    let signing_key = token_of_key(keys, outside, found);
    let headers = headers(keys, outside, found);
    let tls = keys.tls.as_ref().map(|written| tls_of(written, found));
    let address = address(written, &keys.password_file, &form(format), outside, found)?;
    if let Some(written) = keys.tls.as_ref().filter(|_| address.expose().starts_with("http:")) {
        found.error(written.span(), "`tls` beside an address without TLS; expected an https:// address");
    }
    if let Some(why) = missing(keys, format) {
        found.error(place, why);
    }
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        && let Some(at) = keys.token.as_ref().or(keys.token_file.as_ref())
    {
        found.error(at.span(), "both a token and the header `Authorization`; expected one of them");
    }
    let channel = keys.channel.as_ref().or(keys.chat.as_ref()).map(|channel| channel.get_ref().clone());
    let mail = (format == AlertFormat::Email).then(|| mail(keys, &address, found));
    Some(AlertReceiver { name, format, address, token, channel, mail, headers, signing_key, tls, route })
}

/// The address of a receiver and what it is the address of.
fn one_address<'a>(
    keys: &'a AlertKeys,
    place: Range<usize>,
    found: &mut Findings,
) -> Option<(&'a Spanned<Text<Template>>, AlertFormat)> {
    let of_webhook = keys.format.as_ref().map_or(AlertFormat::Json, |format| format.get_ref().0);
    let all = [
        (&keys.webhook, of_webhook),
        (&keys.slack, AlertFormat::Slack),
        (&keys.pagerduty, AlertFormat::Pagerduty),
        (&keys.email, AlertFormat::Email),
        (&keys.ntfy, AlertFormat::Ntfy),
        (&keys.telegram, AlertFormat::Telegram),
        (&keys.discord, AlertFormat::Discord),
        (&keys.teams, AlertFormat::Teams),
    ];
    let mut given: Vec<_> =
        all.into_iter().filter_map(|(address, format)| Some((address.as_ref()?, format))).collect();
    given.sort_by_key(|(address, _)| address.span().start);
    match given.as_slice() {
        [] => {
            let message = "an alert receiver without an address; expected `webhook = \"http://…\"`, or `slack`, \
                           `pagerduty`, `email`, `ntfy`, `telegram`, `discord` or `teams`";
            found.error(place, message);
            None
        }
        [one] => Some(*one),
        [(_, first), (second, format), ..] => {
            let (first, kind) = (key_of(*first), key_of(*format));
            let message =
                format!("a receiver has both `{first}` and `{kind}`; expected an [[alert]] for each");
            found.error(second.span(), message);
            None
        }
    }
}

/// The key of the address.
const fn key_of(format: AlertFormat) -> &'static str {
    match format {
        AlertFormat::Json | AlertFormat::Alertmanager => "webhook",
        AlertFormat::Slack
        | AlertFormat::Pagerduty
        | AlertFormat::Email
        | AlertFormat::Ntfy
        | AlertFormat::Telegram
        | AlertFormat::Discord
        | AlertFormat::Teams => format.as_str(),
    }
}

/// The form of the address.
fn form(format: AlertFormat) -> AddressForm {
    let of_service = |expected| AddressForm { expected, check: secret_url, ..protocol::WEBHOOK };
    match format {
        AlertFormat::Json | AlertFormat::Alertmanager => protocol::WEBHOOK,
        AlertFormat::Slack => of_service(
            "the address of an incoming webhook, or \"https://slack.com/api\" with `token` and `channel`",
        ),
        AlertFormat::Pagerduty => of_service("\"https://events.pagerduty.com/v2/enqueue\""),
        AlertFormat::Ntfy => AddressForm {
            expected: "the address of a topic such as \"https://ntfy.sh/topic\"",
            check: topic,
            ..protocol::WEBHOOK
        },
        AlertFormat::Telegram => of_service("\"https://api.telegram.org\""),
        AlertFormat::Discord => {
            of_service("a webhook such as \"https://discord.com/api/webhooks/123/${DISCORD_TOKEN}\"")
        }
        AlertFormat::Teams => of_service("the https address of a workflow's webhook"),
        AlertFormat::Email => protocol::MAIL,
    }
}

/// An address that is a secret itself, or that a secret is sent to.
fn secret_url(text: &str) -> Result<(), Wrong> {
    (protocol::WEBHOOK.check)(text)?;
    let is_open = Url::parse(text).is_ok_and(|url| url.scheme() == "http" && !is_local(&url));
    if is_open { Err(Wrong::Because("a secret would be sent without TLS".to_owned())) } else { Ok(()) }
}

fn topic(text: &str) -> Result<(), Wrong> {
    (protocol::WEBHOOK.check)(text)?;
    let url = Url::parse(text).ok();
    let topic = url.as_ref().and_then(Url::path_segments).and_then(|mut parts| parts.next_back());
    if topic.is_some_and(|topic| !topic.is_empty()) {
        Ok(())
    } else {
        Err(Wrong::Because("an address without a topic".to_owned()))
    }
}

/// Whether an address is of this host.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// An option, where it is given, and the addresses that it goes with.
type OptionRow = (&'static str, Option<Range<usize>>, &'static [&'static str]);

/// Complains about options that only other receivers have.
fn options_fit(keys: &AlertKeys, format: AlertFormat, found: &mut Findings) {
    fn at<T>(value: &At<T>) -> Option<Range<usize>> {
        value.as_ref().map(Spanned::span)
    }
    const WITH_TOKEN: &[&str] = &["webhook", "slack", "pagerduty", "ntfy", "telegram"];
    let options: [OptionRow; 12] = [
        ("format", at(&keys.format), &["webhook"]),
        ("headers", at(&keys.headers), &["webhook"]),
        ("signing_key", at(&keys.signing_key), &["webhook"]),
        ("signing_key_file", at(&keys.signing_key_file), &["webhook"]),
        ("token", at(&keys.token), WITH_TOKEN),
        ("token_file", at(&keys.token_file), WITH_TOKEN),
        ("password_file", at(&keys.password_file), &["webhook", "email", "ntfy"]),
        ("channel", at(&keys.channel), &["slack"]),
        ("chat", at(&keys.chat), &["telegram"]),
        ("from", at(&keys.from), &["email"]),
        ("to", at(&keys.to), &["email"]),
        ("starttls", at(&keys.starttls), &["email"]),
    ];
    let key = key_of(format);
    for (option, place, with) in options {
        if let Some(place) = place.filter(|_| !with.contains(&key)) {
            let with = listed(with.iter().copied(), "or");
            found.error(place, format!("`{option}` beside `{key}`; expected it beside {with}"));
        }
    }
}

/// What a receiver lacks.
fn missing(keys: &AlertKeys, format: AlertFormat) -> Option<&'static str> {
    let has_token = keys.token.is_some() || keys.token_file.is_some();
    match format {
        AlertFormat::Pagerduty if !has_token => {
            Some("`pagerduty` without a key; expected `token = \"${PAGERDUTY_KEY}\"` or `token_file`")
        }
        AlertFormat::Telegram if !has_token => {
            Some("`telegram` without a token; expected `token = \"${TELEGRAM_TOKEN}\"` or `token_file`")
        }
        AlertFormat::Telegram if keys.chat.is_none() => {
            Some("`telegram` without a chat; expected `chat = \"-100…\"` or the like")
        }
        AlertFormat::Slack if has_token && keys.channel.is_none() => {
            Some("`slack` with a token and without a channel; expected `channel = \"C…\"` or the like")
        }
        AlertFormat::Slack if !has_token && keys.channel.is_some() => {
            Some("`channel` without a token; expected `token = \"${SLACK_TOKEN}\"` or `token_file`")
        }
        AlertFormat::Email if keys.from.is_none() => {
            Some("`email` without a sender; expected `from = \"hostprobe@example.org\"` or the like")
        }
        AlertFormat::Email if keys.to.as_ref().is_none_or(|to| to.get_ref().is_empty()) => {
            Some("`email` without an addressee; expected `to = [\"oncall@example.org\"]` or the like")
        }
        AlertFormat::Json
        | AlertFormat::Alertmanager
        | AlertFormat::Slack
        | AlertFormat::Pagerduty
        | AlertFormat::Email
        | AlertFormat::Ntfy
        | AlertFormat::Telegram
        | AlertFormat::Discord
        | AlertFormat::Teams => None,
    }
}

fn name(keys: &AlertKeys, found: &mut Findings) -> Option<String> {
    let name = keys.name.as_ref()?;
    let text = name.get_ref();
    let is_right = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_right {
        let message = format!(
            "found {}; expected a name of 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and underscores",
            quote(text)
        );
        found.error(name.span(), message);
    }
    Some(text.clone())
}

fn route(keys: &AlertKeys, services: &[Spanned<Table<file::Service>>], found: &mut Findings) -> AlertRoute {
    for pattern in &keys.services {
        let text = pattern.get_ref();
        let names = services.iter().filter_map(|service| service.get_ref().0.name.as_ref());
        let mut names = names.map(|name| name.get_ref().as_str()).chain(["host", "hostprobe"]);
        if !services.is_empty() && !names.any(|name| matches(text, name)) {
            found.warn(pattern.span(), format!("{}: no [[service]] has such a name", quote(text)));
        }
    }
    AlertRoute {
        min_severity: keys.min_severity.as_ref().map_or(Severity::Warning, |severity| severity.0),
        services: keys.services.iter().map(|name| name.get_ref().clone()).collect(),
        after: time(&keys.after, "after", AFTER, found).unwrap_or_default(),
        remind: time(&keys.remind, "remind", REMIND, found),
    }
}

fn token_of_key(keys: &AlertKeys, outside: &Outside<'_>, found: &mut Findings) -> Option<Secret> {
    token(&keys.signing_key, &keys.signing_key_file, "signing_key", outside, found)
}

/// A secret that stands in the file, in the environment or in a file of its own.
fn token(
    written: &At<String>,
    file: &At<String>,
    key: &str,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Secret> {
    if let (Some(_), Some(file)) = (written, file) {
        found.error(file.span(), format!("both `{key}` and `{key}_file`; expected one of them"));
    }
    let text = match (written, file) {
        (Some(written), _) => {
            let Filled { text, inserted } = fill(written, outside, found)?;
            if inserted.is_empty() && outside.readable_by_others {
                found.warn(written.span(), IN_FILE);
            }
            text
        }
        (None, Some(file)) => {
            let path = absolute(file, "the absolute path of a file that holds the token alone", found)?;
            match read::token(&path) {
                Ok(content) => {
                    if content.readable_by_others {
                        let warning =
                            format!("the token file {} may be read by others (chmod 600)", path.display());
                        found.warn(file.span(), warning);
                    }
                    content.text
                }
                Err(message) => {
                    found.error(file.span(), message);
                    return None;
                }
            }
        }
        (None, None) => return None,
    };
    if text.is_empty() || HeaderValue::try_from(&text).is_err() {
        let place = written.as_ref().or(file.as_ref()).map_or(0..0, Spanned::span);
        found.error(place, format!("a wrong `{key}`; expected visible characters"));
        return None;
    }
    Some(hidden(text))
}

fn headers(keys: &AlertKeys, outside: &Outside<'_>, found: &mut Findings) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, value) in keys.headers.iter().flat_map(Spanned::get_ref) {
        if HeaderName::try_from(name).is_err() {
            found.error(value.span(), "a wrong header name; expected one such as \"X-Request-Id\"");
            continue;
        }
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            found.error(
                value.span(),
                format!("hostprobe sets the header `{name}` itself; expected another one"),
            );
            continue;
        }
        let Some(Filled { text, mut inserted }) = fill(value, outside, found) else { continue };
        if HeaderValue::try_from(&text).is_err() {
            found.error(
                value.span(),
                format!("a wrong value of the header `{name}`; expected visible characters"),
            );
            continue;
        }
        if is_secret_header(name) {
            if inserted.is_empty() && outside.readable_by_others {
                found.warn(value.span(), IN_FILE);
            }
            inserted.extend(secrets_of(&text));
        }
        headers.push((name.clone(), Secret::shown_as(text, "***", inserted)));
    }
    headers
}

fn tls_of(written: &Spanned<Table<AlertTlsKeys>>, found: &mut Findings) -> TlsOptions {
    let Table(AlertTlsKeys { ca_file, cert, key, insecure }) = written.get_ref().clone();
    let keys = TlsKeys { ca_file, cert, key, insecure, ..TlsKeys::default() };
    tls::options(&keys, written.span(), found)
}

/// From whom to whom, by which kind of session.
fn mail(keys: &AlertKeys, address: &Secret, found: &mut Findings) -> MailOptions {
    let mut mailbox = |written: &Spanned<String>| {
        let text = written.get_ref();
        if text.parse::<Mailbox>().is_err() {
            let expected =
                "a mail address such as \"oncall@example.org\" or \"On call <oncall@example.org>\"";
            found.error(written.span(), format!("a wrong mail address; expected {expected}"));
        }
        text.clone()
    };
    let from = keys.from.as_ref().map(&mut mailbox).unwrap_or_default();
    let to = keys.to.iter().flat_map(Spanned::get_ref).map(mailbox).collect();
    let url = Url::parse(address.expose()).ok();
    let is_plain = url.as_ref().is_some_and(|url| url.scheme() == "smtp");
    let is_local = url.as_ref().is_some_and(is_local);
    if let Some(starttls) = keys.starttls.as_ref().filter(|_| !is_plain) {
        found.error(
            starttls.span(),
            "`starttls` beside \"smtps://\", which has TLS from the start; expected \"smtp://\"",
        );
    }
    let starttls = keys.starttls.as_ref().map_or(!is_local, |starttls| *starttls.get_ref()) && is_plain;
    let has_login = url.as_ref().is_some_and(|url| !url.username().is_empty());
    if let Some(written) = keys.starttls.as_ref().filter(|_| is_plain && !starttls && !is_local) {
        if has_login {
            found.error(
                written.span(),
                "the password would be sent without TLS; expected `starttls = true`, or an address without a user",
            );
        } else {
            found.warn(written.span(), "alerts go to the mail server without TLS");
        }
    }
    if let Some(written) = keys.tls.as_ref().filter(|_| is_plain && !starttls) {
        found.error(written.span(), "`tls` beside a session without TLS; expected `starttls = true`");
    }
    MailOptions { from, to, starttls }
}
