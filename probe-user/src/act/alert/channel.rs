//! The way to one receiver: its format, and how its calls are sent.

use std::time::Duration;

use reqwest::{Client, Url};

use super::{
    client::{client, reason},
    error::AlertError,
    format::{self, Call, Format, Refused, RefusedKind},
    notification::Notification,
    outbox::Message,
    request,
    smtp::MailServer,
};
use crate::{
    config::{AlertFormat, AlertReceiver, TlsOptions},
    emit::Origin,
};

/// A mail takes a session of several exchanges, and servers slow down those they do not know.
const MAIL_TIMEOUTS: u32 = 3;

/// Why a delivery failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// The receiver answers but refuses this message. It may accept others.
    pub(super) refused: bool,
    /// How long the receiver asks to wait.
    pub(super) pause: Option<Duration>,
}

#[derive(Debug)]
enum Transport {
    Http { client: Client, tls: Option<TlsOptions> },
    Mail(MailServer),
}

#[derive(Debug)]
pub(super) struct Channel {
    /// The configured name, or scheme and host only, because a path may hold a token.
    pub(super) name: String,
    format: Box<dyn Format>,
    transport: Transport,
    timeout: Duration,
}

impl Channel {
    /// `page` is the daemon's address for people.
    pub(super) fn new(
        receiver: &AlertReceiver,
        origin: &Origin,
        page: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, AlertError> {
        let format = format::of(receiver, origin, page)?;
        if receiver.format == AlertFormat::Email {
            let server = MailServer::new(receiver, &origin.host_name)?;
            let name = receiver.name.clone().unwrap_or_else(|| server.name());
            let timeout = timeout * MAIL_TIMEOUTS;
            return Ok(Self { name, format, transport: Transport::Mail(server), timeout });
        }
        let bad = |reason: String| AlertError::Webhook { webhook: receiver.address.to_string(), reason };
        let url = Url::parse(receiver.address.expose()).map_err(|error| bad(error.to_string()))?;
        let name = receiver.name.clone().unwrap_or_else(|| url.origin().ascii_serialization());
        let client = client(&url, timeout)
            .map_err(|error| AlertError::Client { receiver: name.clone(), reason: reason(error) })?;
        Ok(Self { name, format, transport: Transport::Http { client, tls: receiver.tls.clone() }, timeout })
    }

    pub(super) fn shows_silence(&self) -> bool {
        self.format.shows_silence()
    }

    /// Has the receiver know a message: by an update of what it was sent, if it can do that, else by a new message. Returns
    /// the receiver's own name for what it has.
    pub(super) async fn tell(&self, message: &Message) -> Result<Option<String>, Failure> {
        let mut posted = message.posted.clone();
        if let Some(known) = &message.posted
            && !message.is_reminder
        {
            match self.format.edit(message, known) {
                None => posted = None,
                Some(edit) => match self.call(edit).await {
                    Ok(_) => {}
                    Err(Refused { kind: RefusedKind::Gone, .. }) => posted = None,
                    Err(refused) => return Err(refused.into()),
                },
            }
        }
        if posted.is_none() || message.asks_for_attention() {
            let post = self.format.post(message, posted.as_deref());
            let post = post.map_err(|why| Refused { why, kind: RefusedKind::Message })?;
            let new = self.call(post).await?;
            posted = posted.or(new);
        }
        Ok(posted)
    }

    /// Repeats all firing alerts, if the receiver needs that.
    pub(super) async fn refresh(&self, firing: &[Notification]) -> Result<(), Failure> {
        if let Some(call) = self.format.refresh(firing) {
            self.call(call).await?;
        }
        Ok(())
    }

    async fn call(&self, call: Call) -> Result<Option<String>, Refused> {
        match (call, &self.transport) {
            (Call::Request(request), Transport::Http { client, tls }) => {
                let answer = request::send(client.clone(), tls.clone(), request, self.timeout).await;
                let answer = answer.map_err(|why| Refused { why, kind: RefusedKind::Busy(None) })?;
                self.format.read(&answer)
            }
            (Call::Mail(mail), Transport::Mail(server)) => {
                server.send(*mail, self.timeout).await.map(|()| None)
            }
            (Call::Request(_), Transport::Mail(_)) | (Call::Mail(_), Transport::Http { .. }) => {
                let why = "its messages do not go with its address".to_owned();
                Err(Refused { why, kind: RefusedKind::Message })
            }
        }
    }
}

impl From<Refused> for Failure {
    fn from(Refused { why, kind }: Refused) -> Self {
        match kind {
            RefusedKind::Busy(pause) => Self { why, refused: false, pause },
            RefusedKind::Message | RefusedKind::Gone => Self { why, refused: true, pause: None },
        }
    }
}
