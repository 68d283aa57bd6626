//! The messages to receivers, a file for each of their formats.
//!
//! A format does no I/O. It writes requests and mails, and reads the answers to them (`call`).

mod alertmanager;
mod call;
mod discord;
mod email;
mod json;
mod ntfy;
mod pagerduty;
mod slack;
mod teams;
mod telegram;
#[cfg(test)]
pub(super) mod tests;
mod text;

use reqwest::Url;

pub(in crate::act) use self::call::{Answer, Request};
pub(super) use self::call::{Call, Format, Mail, Refused, RefusedKind};
use super::error::AlertError;
use crate::{
    config::{AlertFormat, AlertReceiver},
    emit::Origin,
};

/// The format of a receiver. `page` is the daemon's address for people.
pub(super) fn of(
    receiver: &AlertReceiver,
    origin: &Origin,
    page: Option<&str>,
) -> Result<Box<dyn Format>, AlertError> {
    let writer = text::Writer { origin: origin.clone(), page: page.map(str::to_owned) };
    let url = || url(receiver);
    let token = receiver.token.as_ref().map(|token| token.expose().to_owned());
    let channel = receiver.channel.clone().unwrap_or_default();
    Ok(match receiver.format {
        AlertFormat::Json => Box::new(json::Json { writer, webhook: json::Webhook::new(receiver, url()?) }),
        AlertFormat::Alertmanager => {
            let webhook = json::Webhook::new(receiver, url()?);
            Box::new(alertmanager::Alertmanager { writer, webhook })
        }
        AlertFormat::Slack => match token {
            Some(token) => Box::new(slack::Bot { writer, api: url()?, token, channel }),
            None => Box::new(slack::IncomingWebhook { writer, url: url()? }),
        },
        AlertFormat::Pagerduty => {
            Box::new(pagerduty::Pagerduty { writer, url: url()?, key: token.unwrap_or_default() })
        }
        AlertFormat::Email => Box::new(email::Email::new(writer, receiver)?),
        AlertFormat::Ntfy => Box::new(ntfy::Ntfy::new(writer, url()?, token)),
        AlertFormat::Telegram => Box::new(telegram::Telegram {
            writer,
            api: url()?,
            token: token.unwrap_or_default(),
            chat: channel,
        }),
        AlertFormat::Discord => Box::new(discord::Discord { writer, url: url()? }),
        AlertFormat::Teams => Box::new(teams::Teams { writer, url: url()? }),
    })
}

/// The address for requests.
fn url(receiver: &AlertReceiver) -> Result<Url, AlertError> {
    let bad = |reason: String| AlertError::Webhook { webhook: receiver.address.to_string(), reason };
    let url = Url::parse(receiver.address.expose()).map_err(|error| bad(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(format!("its scheme is {}", url.scheme())));
    }
    Ok(url)
}
