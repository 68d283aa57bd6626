//! Receivers of alerts: their keys, and what is valid of them.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    hook::matches,
    secret::Secret,
    spanned::Spanned,
    template::Template,
    tls::TlsOptions,
    values::{At, Table, Text},
};
use crate::fact::Severity;

/// A receiver has exactly one address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["webhook"]},
    {"required": ["slack"]},
    {"required": ["pagerduty"]},
    {"required": ["email"]},
    {"required": ["ntfy"]},
    {"required": ["telegram"]},
    {"required": ["discord"]},
    {"required": ["teams"]}
], "dependentRequired" = {
    "format": ["webhook"],
    "headers": ["webhook"],
    "signing_key": ["webhook"],
    "signing_key_file": ["webhook"],
    "channel": ["slack"],
    "chat": ["telegram"],
    "telegram": ["chat"],
    "from": ["email"],
    "to": ["email"],
    "starttls": ["email"],
    "email": ["from", "to"]
}))]
pub(super) struct AlertKeys {
    /// Its name in events and metrics, and for `hostprobe alert test`: 1 to 64 letters, digits, dots, hyphens and underscores,
    /// once; the host of its address if not given.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub(super) name: At<String>,
    /// The http or https address that incidents are posted to. `${NAME}` stands for a variable of the environment.
    pub(super) webhook: At<Text<Template>>,
    /// A Slack incoming webhook; or, with `token` and `channel`, Slack's Web API, "https://slack.com/api".
    pub(super) slack: At<Text<Template>>,
    /// PagerDuty's Events API v2, "https://events.pagerduty.com/v2/enqueue", or that of the EU; `token` is the integration key.
    pub(super) pagerduty: At<Text<Template>>,
    /// A mail server: "smtp://[user:password@]host[:587]" with STARTTLS, "smtps://…[:465]" with TLS from the start.
    pub(super) email: At<Text<Template>>,
    /// A topic of an ntfy server, such as "https://ntfy.sh/topic".
    pub(super) ntfy: At<Text<Template>>,
    /// Telegram's Bot API, "https://api.telegram.org"; `token` is the bot's.
    pub(super) telegram: At<Text<Template>>,
    /// A Discord webhook.
    pub(super) discord: At<Text<Template>>,
    /// The address of a Microsoft Teams workflow that posts what a webhook gets.
    pub(super) teams: At<Text<Template>>,
    /// With `webhook`: "json", the incident as in the event stream, or "alertmanager"; "json" if not given.
    pub(super) format: At<Text<AlertFormat>>,
    /// A file that holds the password of the user in the address.
    #[schemars(regex(pattern = "^/"))]
    pub(super) password_file: At<String>,
    /// The token of the receiver. `${NAME}` stands for a variable of the environment.
    pub(super) token: At<String>,
    /// A file that holds the token.
    #[schemars(regex(pattern = "^/"))]
    pub(super) token_file: At<String>,
    /// With `slack` and a token: the channel, by its id or name. Its one message about an incident is updated.
    #[schemars(length(min = 1))]
    pub(super) channel: At<String>,
    /// With `telegram`: the chat, by its id or "@channel".
    #[schemars(length(min = 1))]
    pub(super) chat: At<String>,
    /// With `email`: the sender, such as "hostprobe <hostprobe@example.org>".
    pub(super) from: At<String>,
    /// With `email`: the addressees.
    #[schemars(length(min = 1))]
    pub(super) to: At<Vec<Spanned<String>>>,
    /// With an `email` of "smtp://": whether TLS is required; true if not given, and false for a server of this host.
    pub(super) starttls: At<bool>,
    /// With `webhook`: further headers. `${NAME}` stands for a variable of the environment.
    pub(super) headers: At<BTreeMap<String, Spanned<String>>>,
    /// With `webhook`: the key that each body is signed with, as Standard Webhooks says. `${NAME}` stands for a variable of the
    /// environment.
    pub(super) signing_key: At<String>,
    /// A file that holds the key.
    #[schemars(regex(pattern = "^/"))]
    pub(super) signing_key_file: At<String>,
    /// Whom it trusts, and what it shows of itself.
    pub(super) tls: At<Table<AlertTlsKeys>>,
    /// Incidents of a lower severity are not sent; "warning" if not given.
    pub(super) min_severity: Option<Text<Severity>>,
    /// Only for these services, with `*` for any characters; all if not given.
    #[serde(default)]
    pub(super) services: Vec<Spanned<String>>,
    /// Incidents that are over or acknowledged sooner than this after their fault are not sent: 0s to 7d; "0s" if not given.
    pub(super) after: At<Text<Duration>>,
    /// How often an open incident that is not acknowledged is sent again: 10s to 30d; never if not given.
    pub(super) remind: At<Text<Duration>>,
}

/// The keys of a receiver's `tls`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"cert": ["key"], "key": ["cert"]}))]
pub(super) struct AlertTlsKeys {
    /// A file of the certificates in PEM that are trusted, in place of the host's store.
    #[schemars(regex(pattern = "^/"))]
    pub(super) ca_file: At<String>,
    /// A file of the certificate in PEM that is shown to the receiver, and of those that sign it.
    #[schemars(regex(pattern = "^/"))]
    pub(super) cert: At<String>,
    /// The file of that certificate's private key in PEM.
    #[schemars(regex(pattern = "^/"))]
    pub(super) key: At<String>,
    /// Whether any certificate of the receiver is taken; false if not given.
    pub(super) insecure: At<bool>,
}

/// Who gets alerts, and in which form.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertReceiver {
    pub name: Option<String>,
    pub format: AlertFormat,
    /// Where requests or mails go.
    pub address: Secret,
    pub token: Option<Secret>,
    /// The channel of Slack's Web API, or the chat of Telegram.
    pub channel: Option<String>,
    /// Of an e-mail.
    pub mail: Option<MailOptions>,
    /// Further headers of a webhook.
    pub headers: Vec<(String, Secret)>,
    pub signing_key: Option<Secret>,
    pub tls: Option<TlsOptions>,
    pub route: AlertRoute,
}

/// Which incidents a receiver gets, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRoute {
    /// Incidents of a lower severity are not sent.
    pub min_severity: Severity,
    /// Names of services, in which `*` stands for any characters; empty: all.
    pub services: Vec<String>,
    /// An incident that is over or acknowledged sooner than this after its fault is not sent.
    pub after: Duration,
    /// How often an open incident is sent again; None: never.
    pub remind: Option<Duration>,
}

/// From whom to whom mails go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailOptions {
    pub from: String,
    pub to: Vec<String>,
    /// Whether a session begins without TLS and must not go on without it.
    pub starttls: bool,
}

/// The form of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertFormat {
    /// hostprobe's own: the incident as in the event stream.
    Json,
    /// Alertmanager's `POST /api/v2/alerts`.
    Alertmanager,
    Slack,
    Pagerduty,
    Email,
    Ntfy,
    Telegram,
    Discord,
    Teams,
}

impl AlertFormat {
    /// The word used for it where receivers are told apart.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Alertmanager => "alertmanager",
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Email => "email",
            Self::Ntfy => "ntfy",
            Self::Telegram => "telegram",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }
}

impl Default for AlertRoute {
    fn default() -> Self {
        Self { min_severity: Severity::Warning, services: Vec::new(), after: Duration::ZERO, remind: None }
    }
}

impl AlertRoute {
    /// Whether it is for incidents of this service with this severity.
    pub fn wants(&self, severity: Severity, service: &str) -> bool {
        let is_meant = || self.services.iter().any(|pattern| matches(pattern, service));
        severity >= self.min_severity && (self.services.is_empty() || is_meant())
    }
}

impl AlertReceiver {
    /// A receiver without any option.
    pub fn new(format: AlertFormat, address: Secret) -> Self {
        Self {
            name: None,
            format,
            address,
            token: None,
            channel: None,
            mail: None,
            headers: Vec::new(),
            signing_key: None,
            tls: None,
            route: AlertRoute::default(),
        }
    }

    /// Its passwords and tokens, which no output may hold.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let address = self.address.parts().into_iter().chain(self.address.path_tokens());
        let keys = self.token.iter().chain(&self.signing_key).map(|key| key.expose().to_owned());
        address.chain(keys).chain(self.headers.iter().flat_map(|(_, value)| value.parts()))
    }
}
