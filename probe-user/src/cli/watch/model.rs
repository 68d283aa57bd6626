//! What the view shows: it takes inputs in, and knows nothing of terminals.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hostprobe::{
    emit::{
        wire::{self, Record, ServiceState},
        word,
    },
    escape::escaped,
    fact::CommandKind,
    serve::{
        control::{Operation, Target},
        status::{Service, Status},
    },
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    feed::{Input, Order},
    local::Local,
};
use crate::cli::incidents::explanation_page;

/// The kept events.
const EVENTS: usize = 200;

/// The kept response times of a service, a second each.
pub const SAMPLES: usize = 60;

/// How long a pause lasts that is ordered here.
const PAUSE: Duration = Duration::from_secs(30 * 60);

/// The order of the services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst first.
    #[default]
    Need,
    Name,
    /// The slowest first.
    Answer,
    /// Those that use most of a CPU first.
    Cpu,
    /// Those that use most memory first.
    Memory,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Need => Self::Name,
            Self::Name => Self::Answer,
            Self::Answer => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Need,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Need => "need",
            Self::Name => "name",
            Self::Answer => "answer",
            Self::Cpu => "CPU",
            Self::Memory => "memory",
        }
    }
}

/// What the keys are for at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    #[default]
    List,
    /// A word is typed that the shown services contain.
    Filter,
    /// A question that y or n answers.
    Confirm {
        question: String,
        operation: Operation,
    },
    /// An incident as one page, scrolled down by so many lines. Without lines, it is waited for.
    Detail {
        title: String,
        lines: Vec<String>,
        scrolled: usize,
    },
    Help,
}

/// Whether the view goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Show,
    /// Nothing that is shown has changed.
    Wait,
    Ask(Order),
    Quit,
}

#[derive(Debug, Default)]
pub struct Model {
    pub status: Option<Status>,
    /// Why the daemon does not answer.
    pub down: Option<String>,
    pub local: Local,
    /// The latest first.
    pub events: VecDeque<String>,
    pub mode: Mode,
    pub filter: String,
    pub sort: Sort,
    /// What the last command led to, until the next key.
    pub said: Option<String>,
    /// The name of the chosen service.
    pub chosen: Option<String>,
    /// The first of the services that fit the screen. The screen sets it, and the number of those that fit.
    pub first: usize,
    pub page: usize,
    times: BTreeMap<String, VecDeque<f64>>,
}

impl Model {
    pub fn take(&mut self, input: Input) -> Next {
        match input {
            Input::Key(key) => return self.on_key(key),
            Input::Resized => {}
            Input::Status(status) => self.on_status(*status),
            Input::Down(why) => {
                if self.down.as_ref() == Some(&why) {
                    return Next::Wait;
                }
                self.down = Some(why);
            }
            Input::Event(record) => self.on_event(&record),
            Input::Local(local) => self.local = *local,
            Input::Explanation(answer) => {
                let Mode::Detail { lines, .. } = &mut self.mode else { return Next::Wait };
                *lines = match answer {
                    Ok(explanation) => {
                        explanation_page(&explanation, None).text().lines().map(str::to_owned).collect()
                    }
                    Err(why) => vec![escaped(&why).into_owned()],
                };
            }
            Input::Outcome(Ok(said) | Err(said)) => self.said = Some(escaped(&said).into_owned()),
        }
        Next::Show
    }

    fn on_status(&mut self, status: Status) {
        self.down = None;
        self.times.retain(|name, _| status.services.iter().any(|service| service.name == *name));
        for service in &status.services {
            let Some(took) = service.response_time_ms else { continue };
            let times = self.times.entry(service.name.clone()).or_default();
            if times.len() == SAMPLES {
                times.pop_front();
            }
            times.push_back(took);
        }
        self.status = Some(status);
        let shown = self.shown();
        let is_shown = |name: &String| shown.iter().any(|service| service.name == *name);
        if !self.chosen.as_ref().is_some_and(is_shown) {
            self.chosen = shown.first().map(|service| service.name.clone());
        }
    }

    fn on_event(&mut self, record: &Record) {
        let time = record.timestamp.get(11..19).unwrap_or_default();
        let line = format!("{time} {:<16} {}", word(&record.event.action), record.message);
        self.events.push_front(escaped(&line).into_owned());
        self.events.truncate(EVENTS);
    }

    /// The services that the filter admits, in order.
    pub fn shown(&self) -> Vec<&Service> {
        let services = self.status.iter().flat_map(|status| &status.services);
        let wanted = self.filter.to_lowercase();
        let mut shown: Vec<&Service> = services
            .filter(|service| {
                let state = word(&service.state);
                service.name.to_lowercase().contains(&wanted) || state.contains(&wanted)
            })
            .collect();
        let used =
            |service: &Service| service.main_pid.and_then(|pid| self.local.services.get(&pid).copied());
        match self.sort {
            Sort::Need => shown.sort_by_key(|service| (need(service), service.name.clone())),
            Sort::Name => shown.sort_by(|one, other| one.name.cmp(&other.name)),
            Sort::Answer => shown.sort_by(|one, other| {
                let took = |service: &Service| service.response_time_ms.unwrap_or(-1.0);
                took(other).total_cmp(&took(one))
            }),
            Sort::Cpu => shown.sort_by(|one, other| {
                let cpu = |service: &Service| used(service).and_then(|used| used.cpu).unwrap_or(-1.0);
                cpu(other).total_cmp(&cpu(one))
            }),
            Sort::Memory => {
                shown.sort_by_key(|service| std::cmp::Reverse(used(service).map_or(0, |used| used.memory)))
            }
        }
        shown
    }

    /// The latest response times of a service, in milliseconds, the oldest first.
    pub fn times(&self, service: &str) -> Vec<f64> {
        self.times.get(service).map(|times| times.iter().copied().collect()).unwrap_or_default()
    }

    fn on_key(&mut self, key: KeyEvent) -> Next {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Next::Quit;
        }
        self.said = None;
        match &mut self.mode {
            Mode::List => self.on_list_key(key.code),
            Mode::Filter => self.on_filter_key(key.code),
            Mode::Help => {
                self.mode = Mode::List;
                Next::Show
            }
            Mode::Confirm { operation, .. } => {
                let operation = operation.clone();
                self.mode = Mode::List;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    self.said = Some("under way".to_owned());
                    return Next::Ask(Order::Operate(operation));
                }
                Next::Show
            }
            Mode::Detail { lines, scrolled, .. } => {
                let (page, last) = (self.page.max(1), lines.len().saturating_sub(1));
                match step(key.code, page) {
                    Some(step) => *scrolled = scrolled.saturating_add_signed(step).min(last),
                    None => self.mode = Mode::List,
                }
                Next::Show
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_filter_key(&mut self, code: KeyCode) -> Next {
        match code {
            KeyCode::Char(char) => self.filter.push(char),
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::List;
            }
            _ => self.mode = Mode::List,
        }
        self.choose(0);
        Next::Show
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_list_key(&mut self, code: KeyCode) -> Next {
        if let Some(step) = step(code, self.page.max(1)) {
            self.choose(step);
            return Next::Show;
        }
        match code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Enter => return self.open_detail(),
            KeyCode::Char('p') => self.confirm_pause(),
            KeyCode::Char('r') => self.confirm(CommandKind::Restart, None),
            KeyCode::Char('a') => self.confirm_ack(),
            _ => return Next::Wait,
        }
        Next::Show
    }

    /// Chooses the service so many lines further down.
    fn choose(&mut self, step: isize) {
        let shown = self.shown();
        let at = shown.iter().position(|service| Some(&service.name) == self.chosen.as_ref());
        let at = at.unwrap_or(0).saturating_add_signed(step).min(shown.len().saturating_sub(1));
        self.chosen = shown.get(at).map(|service| service.name.clone());
    }

    fn chosen(&self) -> Option<&Service> {
        let services = self.status.iter().flat_map(|status| &status.services);
        services.into_iter().find(|service| Some(&service.name) == self.chosen.as_ref())
    }

    fn open_detail(&mut self) -> Next {
        let Some(service) = self.chosen() else { return Next::Wait };
        let Some(incident) = service.incident.clone() else {
            self.said = Some(format!("{} has no open incident", escaped(&service.name)));
            return Next::Show;
        };
        self.mode = Mode::Detail { title: incident.clone(), lines: Vec::new(), scrolled: 0 };
        Next::Ask(Order::Explain(incident))
    }

    fn confirm_pause(&mut self) {
        let is_paused =
            |service: &Service| service.orders.iter().any(|order| order.command == wire::CommandKind::Pause);
        match self.chosen().map(is_paused) {
            Some(true) => self.confirm(CommandKind::Resume, None),
            Some(false) => self.confirm(CommandKind::Pause, Some(PAUSE)),
            None => {}
        }
    }

    fn confirm_ack(&mut self) {
        let Some(service) = self.chosen() else { return };
        match service.incident.clone() {
            Some(incident) => {
                let question = format!("acknowledge {incident} of {}? (y/n)", escaped(&service.name));
                self.ask(question, CommandKind::Ack, Target::Incident(incident), None);
            }
            None => self.said = Some(format!("{} has no open incident", escaped(&service.name))),
        }
    }

    fn confirm(&mut self, command: CommandKind, lasts: Option<Duration>) {
        let Some(service) = self.chosen() else { return };
        let name = service.name.clone();
        let minutes = lasts.map(|lasts| format!(" for {} min", lasts.as_secs() / 60)).unwrap_or_default();
        let question = format!("{} {}{minutes}? (y/n)", command.as_str(), escaped(&name));
        self.ask(question, command, Target::Service(name), lasts);
    }

    fn ask(&mut self, question: String, command: CommandKind, target: Target, lasts: Option<Duration>) {
        let operation = Operation {
            operation: command,
            target,
            seconds: lasts.map(|lasts| lasts.as_secs()),
            reason: None,
        };
        self.mode = Mode::Confirm { question, operation };
    }
}

/// How urgently a service needs a look: the smallest number first.
fn need(service: &Service) -> u8 {
    match service.state {
        ServiceState::Down => 0,
        ServiceState::Unhealthy => 1,
        ServiceState::Degraded => 2,
        _ if service.incident.is_some() => 3,
        ServiceState::Starting => 4,
        ServiceState::Paused => 5,
        ServiceState::Stopped => 6,
        ServiceState::Healthy => 7,
    }
}

/// How far a key moves down.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn step(code: KeyCode, page: usize) -> Option<isize> {
    let page = isize::try_from(page).unwrap_or(isize::MAX);
    Some(match code {
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::PageDown | KeyCode::Char(' ') => page,
        KeyCode::PageUp => -page,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => return None,
    })
}
