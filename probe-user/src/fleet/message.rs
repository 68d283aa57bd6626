//! The messages of the fleet: their form, and the bounds on what comes from elsewhere.
//!
//! A message is a line with a signature, or `-` without one, and a number that grows, and then a JSON object. Readers take
//! further members of the object for those of a later version.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    sign::{Keys, SignError, Signed, Signer},
    subject::{HOST_NAME_MAX, is_host},
};
use crate::{
    escape::escaped,
    fact::{ForeignFault, ForeignStanding, Verdict},
    redact::redact,
};

/// How often each host publishes what holds.
pub(super) const BEAT: Duration = Duration::from_secs(3);

/// A host that is not heard for longer is silent: two messages may be lost.
pub(super) const SILENT: Duration = Duration::from_secs(10);

/// The longest message. A host has room for some hundred services in it.
pub(super) const MESSAGE_MAX: usize = 64 << 10;

/// The most services of a host.
pub(super) const SERVICES_MAX: usize = 256;

/// The most ports of a service.
const PORTS_MAX: usize = 32;

/// The most bytes of a text from elsewhere.
const TEXT_MAX: usize = 400;

/// The most ids of evidence.
const EVIDENCE_MAX: usize = 8;

/// The most causes of causes.
pub(super) const CHAIN_MAX: usize = 8;

/// The most services that one host names as held.
pub(super) const HELD_MAX: usize = 16;

/// That a host lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alive {
    /// The run of its daemon.
    pub run: String,
    /// Its daemon ends on purpose, and is not to be missed.
    #[serde(default)]
    pub leaves: bool,
    /// It hears all others, and would report one that is silent.
    #[serde(default)]
    pub watches: bool,
}

/// The services of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub services: Vec<ServiceState>,
    /// How many services are left out as there is no room for them.
    #[serde(default)]
    pub left_out: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceState {
    pub name: String,
    /// As in the event stream.
    pub state: String,
    /// The TCP ports that it listens on.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Whether what depends on it cannot work.
    #[serde(default)]
    pub blocks: bool,
    #[serde(default)]
    pub incident: Option<OpenIncident>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenIncident {
    pub id: String,
    pub verdict: String,
    pub confidence: f32,
    pub severity: String,
    pub summary: String,
    #[serde(default)]
    pub evidence: Vec<String>,
    /// The service that causes it, if that is another one.
    #[serde(default)]
    pub cause: Option<String>,
    /// The services that are held because of it.
    #[serde(default)]
    pub held: Vec<String>,
    /// The services of other hosts that cause it: its cause, the cause of that one, and so on.
    #[serde(default)]
    pub chain: Vec<Cause>,
}

/// A service of a host that causes failures elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cause {
    pub host: String,
    pub service: String,
}

/// What is held on a host because of services of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub services: Vec<HeldService>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct HeldService {
    /// The service of the other host that is the cause.
    pub cause: String,
    pub held: String,
}

/// That an address is the publisher's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub run: String,
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it has {0} bytes; at most {MESSAGE_MAX} are taken")]
    Long(usize),
    #[error("it has no line with a signature")]
    NoSignature,
    #[error(transparent)]
    Signature(#[from] SignError),
    #[error("it is no JSON object of the form: {0}")]
    Form(serde_json::Error),
}

/// The bytes of a message for a subject. A later message of a host has a higher `sequence`.
pub(super) fn write(
    message: &impl Serialize,
    subject: &str,
    sequence: u64,
    signer: Option<&Signer>,
) -> Vec<u8> {
    // The structs above have no maps, so this cannot fail.
    let body = serde_json::to_vec(message).unwrap_or_default();
    let signature = signer.and_then(|signer| signer.sign(&Signed { subject, sequence, body: &body }));
    let mut bytes = format!("{} {sequence}\n", signature.as_deref().unwrap_or("-")).into_bytes();
    bytes.extend(body);
    bytes
}

/// The message of a host and its sequence, from its bytes. With `keys`, it has to be signed by that host.
pub(super) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    (subject, host): (&str, &str),
    keys: Option<&Keys>,
) -> Result<(T, u64), Refusal> {
    if bytes.len() > MESSAGE_MAX {
        return Err(Refusal::Long(bytes.len()));
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Refusal::NoSignature)?;
    let body = &bytes[end + 1..];
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| Refusal::NoSignature)?;
    let (signature, sequence) = line.split_once(' ').ok_or(Refusal::NoSignature)?;
    let sequence = sequence.parse().map_err(|_| Refusal::NoSignature)?;
    if let Some(keys) = keys {
        keys.verify(host, &Signed { subject, sequence, body }, signature)?;
    }
    Ok((serde_json::from_slice(body).map_err(Refusal::Form)?, sequence))
}

impl State {
    /// It without what is out of bounds, and with safe texts.
    pub(super) fn bounded(mut self) -> Self {
        self.services.truncate(SERVICES_MAX);
        self.services.retain(|service| is_service(&service.name));
        for service in &mut self.services {
            service.ports.truncate(PORTS_MAX);
            safe(&mut service.state);
            let Some(open) = &mut service.incident else { continue };
            open.confidence = if open.confidence.is_finite() { open.confidence.clamp(0.0, 1.0) } else { 0.0 };
            open.evidence.truncate(EVIDENCE_MAX);
            open.held.truncate(HELD_MAX);
            // It is published again with the state of this host.
            open.chain.retain(|cause| is_host(&cause.host) && is_service(&cause.service));
            open.chain.truncate(CHAIN_MAX);
            let single = [&mut open.id, &mut open.verdict, &mut open.severity, &mut open.summary];
            single
                .into_iter()
                .chain(&mut open.evidence)
                .chain(&mut open.held)
                .chain(&mut open.cause)
                .for_each(safe);
        }
        self
    }

    /// It with as many services as a message has room for. Those with incidents come first.
    pub(super) fn fitted(mut self) -> Self {
        self.services.sort_by_key(|service| service.incident.is_none());
        let all = self.services.len();
        self.services.truncate(SERVICES_MAX);
        for service in &mut self.services {
            service.ports.truncate(PORTS_MAX);
            if let Some(open) = &mut service.incident {
                open.evidence.truncate(EVIDENCE_MAX);
                open.held.truncate(HELD_MAX);
                clip(&mut open.summary);
            }
        }
        // The signature takes less than a KiB.
        while serde_json::to_vec(&self).is_ok_and(|bytes| bytes.len() > MESSAGE_MAX - 1024) {
            self.services.truncate(self.services.len() / 2);
        }
        self.left_out = all - self.services.len();
        self
    }
}

impl ServiceState {
    /// Its standing for services of other hosts that connect to it.
    pub(super) fn standing(&self) -> ForeignStanding {
        if !self.blocks {
            return ForeignStanding::Well;
        }
        let fault = match &self.incident {
            None => ForeignFault {
                verdict: Verdict::Stopped,
                confidence: 1.0,
                summary: "it was stopped on purpose".to_owned(),
                evidence: Vec::new(),
            },
            Some(open) => {
                let Some(verdict) = Verdict::ALL.into_iter().find(|it| it.as_str() == open.verdict) else {
                    return ForeignStanding::Unknown(format!(
                        "its host reports a verdict that this version does not know: {}",
                        open.verdict
                    ));
                };
                ForeignFault {
                    verdict,
                    confidence: open.confidence,
                    summary: open.summary.clone(),
                    evidence: open.evidence.clone(),
                }
            }
        };
        ForeignStanding::Failed(fault)
    }
}

impl Held {
    /// It without what is out of bounds.
    pub(super) fn bounded(mut self) -> Self {
        self.services.truncate(HELD_MAX);
        self.services.retain(|it| is_service(&it.cause) && is_service(&it.held));
        self
    }
}

/// Whether a text can be the name of a service, as the configuration has it.
pub(super) fn is_service(text: &str) -> bool {
    (1..=HOST_NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Makes a text from elsewhere safe to show.
fn safe(text: &mut String) {
    clip(text);
    *text = escaped(&redact(text)).into_owned();
    clip(text);
}

fn clip(text: &mut String) {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(summary: &str) -> State {
        let open = OpenIncident {
            verdict: "oom_killed".to_owned(),
            confidence: 1.0,
            summary: summary.to_owned(),
            ..OpenIncident::default()
        };
        let redis = ServiceState {
            name: "redis".to_owned(),
            state: "down".to_owned(),
            ports: vec![6379],
            blocks: true,
            incident: Some(open),
        };
        State { services: vec![redis], left_out: 0 }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let bytes = write(&state("x"), "$KV.hostprobe.state.a", 7, None);
        let (read, sequence) = read::<State>(&bytes, ("$KV.hostprobe.state.a", "a"), None).unwrap();
        assert_eq!((read.bounded(), sequence), (state("x"), 7));
    }

    #[test]
    fn what_is_too_long_or_of_another_form_is_refused() {
        let refusal = |bytes: &[u8]| read::<State>(bytes, ("s", "a"), None).unwrap_err();
        assert!(matches!(refusal(&vec![b'x'; MESSAGE_MAX + 1]), Refusal::Long(_)));
        assert!(matches!(refusal(b"{}"), Refusal::NoSignature));
        assert!(matches!(refusal(b"- 1\n[1]"), Refusal::Form(_)));
        assert!(matches!(refusal(b"- 1\n\xff"), Refusal::Form(_)));
    }

    #[test]
    fn texts_from_elsewhere_are_escaped_redacted_and_clipped() {
        let evil = format!("\u{1b}[2J password=hunter2 {}", "x".repeat(2000));
        let bounded = state(&evil).bounded();
        let summary = &bounded.services[0].incident.as_ref().unwrap().summary;
        assert!(!summary.contains('\u{1b}') && !summary.contains("hunter2"), "{summary}");
        assert!(summary.len() <= TEXT_MAX);
    }

    #[test]
    fn services_with_other_names_and_confidences_out_of_range_are_not_taken_as_they_are() {
        let mut many = state("x");
        let mut other = many.services[0].clone();
        other.name = "a b".to_owned();
        many.services.push(other);
        many.services[0].incident.as_mut().unwrap().confidence = f32::NAN;
        let bounded = many.bounded();
        assert_eq!(bounded.services.len(), 1);
        assert_eq!(bounded.services[0].incident.as_ref().unwrap().confidence.to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn causes_with_other_names_are_left_out_as_they_are_published_again() {
        let mut long = state("x");
        let cause = |host: &str, service: &str| Cause { host: host.to_owned(), service: service.to_owned() };
        let open = long.services[0].incident.as_mut().unwrap();
        open.chain = vec![cause(&"h".repeat(60_000), "redis"), cause("db-1", "a b"), cause("db-1", "redis")];
        let bounded = long.bounded();
        assert_eq!(bounded.services[0].incident.as_ref().unwrap().chain, [cause("db-1", "redis")]);
    }

    #[test]
    fn a_state_fits_into_a_message_and_keeps_the_services_with_incidents() {
        let mut large = State::default();
        for number in 0..1000 {
            let name = format!("{number:060}");
            large.services.push(ServiceState { name, ports: vec![1; 100], ..ServiceState::default() });
        }
        large.services.extend(state(&"x".repeat(5000)).services);
        let fitted = large.fitted();
        assert!(write(&fitted, "s", 1, None).len() <= MESSAGE_MAX);
        assert!(fitted.services[0].incident.is_some());
        assert_eq!(fitted.services.len() + fitted.left_out, 1001);
    }
}
