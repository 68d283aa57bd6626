//! Mails: plain text and HTML, in one thread for each incident.

use lettre::message::{
    Mailbox, Mailboxes, Message as Letter, MultiPart,
    header::{self, HeaderName, HeaderValue},
};

use super::{
    call::{Call, Format, Mail, cut},
    text::{State, Text, Writer},
};
use crate::{
    act::alert::{error::AlertError, outbox::Message},
    config::AlertReceiver,
    fact::Severity,
};

/// A longer subject is not read at a glance.
const SUBJECT_MAX: usize = 180;

#[derive(Debug)]
pub(super) struct Email {
    writer: Writer,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    pub(super) fn new(writer: Writer, receiver: &AlertReceiver) -> Result<Self, AlertError> {
        let mailbox = |text: &String| {
            text.parse().map_err(|error: lettre::address::AddressError| AlertError::Webhook {
                webhook: text.clone(),
                reason: error.to_string(),
            })
        };
        let mail = receiver.mail.clone().unwrap_or_else(|| crate::config::MailOptions {
            from: String::new(),
            to: Vec::new(),
            starttls: true,
        });
        let to = mail.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        Ok(Self { writer, from: mailbox(&mail.from)?, to })
    }

    fn letter(&self, message: &Message) -> Result<Letter, lettre::error::Error> {
        let text = self.writer.text(message);
        // What is in an id is harmless in a header.
        let thread = format!("<{}@{}>", text.id, self.from.email.domain());
        let is_first =
            message.previous.is_none() && !message.notification.alert.resolved && !message.is_reminder;
        let stamp = jiff::Timestamp::now().as_second();
        let id = match is_first {
            true => thread.clone(),
            false => format!("<{}.{}.{stamp}@{}>", text.id, message.number, self.from.email.domain()),
        };
        let mut letter = Letter::builder()
            .mailbox(header::From::from(Mailboxes::from(self.from.clone())))
            .mailbox(header::To::from(self.to.iter().cloned().collect::<Mailboxes>()))
            .subject(cut(&text.title, SUBJECT_MAX))
            .message_id(Some(id));
        if !is_first {
            letter = letter.in_reply_to(thread.clone()).references(thread);
        }
        // RFC 3834: no robot answers it.
        letter = letter.raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
        if text.state == State::Open(Severity::Critical) {
            letter = letter.raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Importance"),
                "high".to_owned(),
            ));
        }
        letter.multipart(MultiPart::alternative_plain_html(plain(&text), html(&text)))
    }
}

impl Format for Email {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let letter = self.letter(message).map_err(|error| format!("the mail cannot be written: {error}"))?;
        let envelope = letter.envelope().clone();
        Ok(Call::Mail(Box::new(Mail { envelope, bytes: letter.formatted() })))
    }
}

fn plain(text: &Text) -> String {
    let mut plain = format!("{}\n\n{}\n\n", text.title, text.summary);
    for (name, value) in &text.facts {
        plain.push_str(&format!("{name}: {value}\n"));
    }
    plain.extend(text.page.iter().map(|page| format!("Page: {page}\n")));
    plain
}

fn html(text: &Text) -> String {
    let color = match text.state {
        State::Open(Severity::Critical) => "#d62728",
        State::Open(Severity::Warning) => "#b35900",
        State::Open(Severity::Info) | State::Acknowledged => "#1f77b4",
        State::Resolved => "#2ca02c",
    };
    let mut html = format!(
        "<html><body><h2 style=\"color:{color}\">{}</h2>\n<p>{}</p>\n<table>\n",
        escape(&text.title),
        escape(&text.summary)
    );
    for (name, value) in &text.facts {
        html.push_str(&format!("<tr><th align=\"left\">{name}</th><td>{}</td></tr>\n", escape(value)));
    }
    html.push_str("</table>\n");
    html.extend(text.page.iter().map(|page| format!("<p><a href=\"{0}\">{0}</a></p>\n", escape(page))));
    html.push_str("</body></html>\n");
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
