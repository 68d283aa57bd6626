//! Draws the view.

use hostprobe::{
    emit::{wire::ServiceState, word},
    escape::escaped,
    serve::status::{Service, Status},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::border,
    text::{Line, Span, Text},
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState},
};

use super::model::{Mode, Model};
use crate::cli::output::ago;

/// The most lines of open incidents below the services.
const INCIDENTS: usize = 5;

/// The lines of events at the bottom; more on a high screen.
const EVENTS: u16 = 5;

/// The response times that a line of the list shows.
const SPARK: usize = 12;

const NAME_MAX: usize = 28;

/// How the terminal can show things.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub colour: bool,
    /// It can show more than ASCII.
    pub unicode: bool,
}

impl Look {
    /// By the environment: `NO_COLOR`, `TERM` and the locale.
    pub fn of_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase().replace('-', "");
        Self {
            colour: set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
            unicode: locale.contains("utf8"),
        }
    }

    fn style(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn block(self) -> Block<'static> {
        const ASCII: border::Set<'_> = border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        };
        Block::bordered().border_set(if self.unicode { border::PLAIN } else { ASCII })
    }

    fn state(self, state: ServiceState) -> Style {
        match state {
            ServiceState::Down => self.style(Color::Red).add_modifier(Modifier::BOLD),
            ServiceState::Unhealthy => self.style(Color::Red),
            ServiceState::Degraded => self.style(Color::Yellow),
            ServiceState::Starting => self.style(Color::Cyan),
            ServiceState::Healthy => self.style(Color::Green),
            ServiceState::Paused | ServiceState::Stopped => self.style(Color::Blue),
        }
    }
}

/// Draws everything. The page of the model becomes what fits.
pub fn draw(model: &mut Model, look: Look, frame: &mut Frame<'_>) {
    let incidents = incidents(model);
    let height = frame.area().height;
    let below = if height < 16 { 0 } else { (height / 4).max(EVENTS) };
    let room = if height < 12 { 0 } else { incidents.len().min(INCIDENTS) as u16 };
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(height > 4)),
        Constraint::Min(1),
        Constraint::Length(room),
        Constraint::Length(below),
        Constraint::Length(1),
    ]);
    let [head, host, list, open, events, keys] = areas.areas(frame.area());
    frame.render_widget(head_line(model), head);
    frame.render_widget(Line::from(host_line(model)), host);
    if let Mode::Detail { title, lines, scrolled } = &model.mode {
        let text =
            if lines.is_empty() { vec!["asking the daemon".to_owned()] } else { lines[*scrolled..].to_vec() };
        let block = look.block().title(format!(" {} ", escaped(title)));
        let all = list.union(open).union(events);
        frame.render_widget(Paragraph::new(plain(text)).block(block), all);
        model.page = usize::from(all.height.saturating_sub(2));
    } else {
        services(model, look, frame, list);
        frame.render_widget(Paragraph::new(plain(incidents)).style(look.style(Color::Red)), open);
        frame.render_widget(event_lines(model, usize::from(below)), events);
    }
    frame.render_widget(key_line(model), keys);
    if model.mode == Mode::Help {
        help(look, frame);
    }
}

fn plain(lines: Vec<String>) -> Text<'static> {
    Text::from(lines.into_iter().map(Line::from).collect::<Vec<_>>())
}

fn head_line(model: &Model) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let Some(status) = &model.status else {
        return Line::styled(model.down.clone().unwrap_or_else(|| "asking the daemon".to_owned()), bold);
    };
    let mut text = format!(" {}  {}", escaped(&status.host.name), counts(status));
    if model.down.is_some() {
        text = format!(" last known:{text}");
    }
    Line::styled(text, bold.add_modifier(Modifier::REVERSED))
}

/// Such as `12 services: 1 down, 11 healthy  1 incident open  15 of 15 hooks`.
fn counts(status: &Status) -> String {
    let states = [
        ServiceState::Down,
        ServiceState::Unhealthy,
        ServiceState::Degraded,
        ServiceState::Starting,
        ServiceState::Paused,
        ServiceState::Stopped,
        ServiceState::Healthy,
    ];
    let counts = states.into_iter().filter_map(|state| {
        let count = status.services.iter().filter(|service| service.state == state).count();
        (count > 0).then(|| format!("{count} {}", word(&state)))
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    let attached = status.coverage.iter().filter(|hook| hook.attached).count();
    let hooks = status.coverage.iter().filter(|hook| !hook.absent).count();
    let (services, open) = (status.services.len(), status.counters.incidents_open);
    format!("{services} services: {counts}  {open} open incidents  {attached}/{hooks} hooks")
}

fn host_line(model: &Model) -> String {
    if let Some(why) = &model.down {
        return format!(" {}", escaped(why));
    }
    let local = &model.local;
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}%"));
    let share = |value: Option<f64>| percent(value.map(|value| value * 100.0));
    let mut line = format!(
        " cpu {}  memory {}  swap {}  waits for cpu {}, memory {}, disk {}",
        percent(local.cpu),
        percent(local.memory),
        percent(local.swap),
        share(local.pressure.cpu),
        share(local.pressure.memory),
        share(local.pressure.io)
    );
    if let Some(disk) = &local.disk {
        line.push_str(&format!("  {} {:.0}%", escaped(&disk.point), disk.percent));
    }
    line
}

fn incidents(model: &Model) -> Vec<String> {
    let Some(status) = &model.status else { return Vec::new() };
    let host = status
        .host_incidents
        .iter()
        .map(|open| format!(" host {} ({}): {}", word(&open.verdict), open.incident, escaped(&open.summary)));
    let of_services = status.services.iter().filter_map(|service| {
        let (id, verdict) = (service.incident.as_ref()?, service.verdict.as_ref()?);
        let summary = service.summary.as_deref().unwrap_or_default();
        let hold = service.hold.as_ref().map(|hold| format!(", not restarted ({hold})")).unwrap_or_default();
        let line = format!(" {} {} ({id}){hold}: {summary}", service.name, word(verdict));
        Some(escaped(&line).into_owned())
    });
    let mut lines: Vec<String> = host.chain(of_services).collect();
    if lines.len() > INCIDENTS {
        let more = lines.len() - (INCIDENTS - 1);
        lines.truncate(INCIDENTS - 1);
        lines.push(format!(" and {more} more open incidents"));
    }
    lines
}

fn services(model: &mut Model, look: Look, frame: &mut Frame<'_>, area: Rect) {
    model.page = usize::from(area.height.saturating_sub(1));
    let shown = model.shown();
    let now = model.status.as_ref().map(|status| status.timestamp.clone()).unwrap_or_default();
    let at = shown.iter().position(|service| Some(&service.name) == model.chosen.as_ref());
    // Only what fits is drawn, so that a thousand services cost no more than twenty.
    let chosen = at.unwrap_or(0);
    let first = model.first.clamp((chosen + 1).saturating_sub(model.page).min(chosen), chosen);
    let fits = shown.iter().skip(first).take(model.page);
    let name = shown.iter().map(|service| service.name.chars().count()).max().unwrap_or(0).clamp(7, NAME_MAX);
    let rows: Vec<Row<'_>> = fits.map(|service| row(model, look, service, &now)).collect();
    let heading = format!("SERVICE ({})", model.sort.as_str());
    let head = Row::new([heading.as_str(), "STATE", "SINCE", "ANSWER", "", "CPU", "MEMORY", "WHAT IS WRONG"])
        .style(Style::new().add_modifier(Modifier::UNDERLINED));
    let spark = if look.unicode { SPARK as u16 } else { 0 };
    let widths = [
        Constraint::Length((name.max(heading.len())) as u16),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(if area.width >= 70 { spark } else { 0 }),
        Constraint::Length(5),
        Constraint::Length(7),
        Constraint::Min(0),
    ];
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(at.map(|at| at - first));
    frame.render_stateful_widget(table, area, &mut state);
    model.first = first;
}

fn row<'a>(model: &Model, look: Look, service: &Service, now: &str) -> Row<'a> {
    let since = service.since.as_deref().and_then(|since| ago(since, now)).unwrap_or_default();
    let took = service.response_time_ms.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms"));
    let used = service.main_pid.and_then(|pid| model.local.services.get(&pid));
    let cpu = used.and_then(|used| used.cpu).map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.0}%"));
    let memory = used.map_or_else(|| "-".to_owned(), |used| bytes(used.memory));
    let wrong = [service.error.as_deref(), service.summary.as_deref()].into_iter().flatten().next();
    Row::new([
        Cell::from(clipped(&escaped(&service.name), NAME_MAX)),
        Cell::from(Span::styled(word(&service.state), look.state(service.state))),
        Cell::from(since),
        Cell::from(Line::from(took).right_aligned()),
        Cell::from(spark(&model.times(&service.name))),
        Cell::from(Line::from(cpu).right_aligned()),
        Cell::from(Line::from(memory).right_aligned()),
        Cell::from(escaped(wrong.unwrap_or_default()).into_owned()),
    ])
}

/// A text of at most so many characters; a longer one ends with a dot.
fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['.']).collect()
}

/// The latest of these as bars, of which the highest is full.
fn spark(times: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let latest = &times[times.len().saturating_sub(SPARK)..];
    let most = latest.iter().copied().fold(0.0, f64::max);
    let bar = |took: &f64| {
        let height = if most > 0.0 { (took / most * 7.0).round() } else { 0.0 };
        BARS[(height as usize).min(7)]
    };
    latest.iter().map(bar).collect()
}

/// Such as `512M`.
fn bytes(bytes: u64) -> String {
    let units = ["K", "M", "G", "T", "P"];
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if size < 10.0 && unit > 0 {
        format!("{size:.1}{}", units[unit])
    } else {
        format!("{size:.0}{}", units[unit])
    }
}

fn event_lines(model: &Model, room: usize) -> Paragraph<'static> {
    let lines: Vec<String> = model.events.iter().take(room).map(|line| format!(" {line}")).collect();
    Paragraph::new(plain(lines)).style(Style::new().add_modifier(Modifier::DIM))
}

fn key_line(model: &Model) -> Line<'static> {
    let text = match (&model.mode, &model.said) {
        (Mode::Confirm { question, .. }, _) => question.clone(),
        (_, Some(said)) => said.clone(),
        (Mode::Filter, None) => format!("/{}_   Enter keeps it, Esc clears it", escaped(&model.filter)),
        (Mode::Detail { .. }, None) => "up, down, PgUp, PgDn: scroll   Esc: back".to_owned(),
        (Mode::List | Mode::Help, None) if !model.filter.is_empty() => {
            format!(
                "filter {:?}, Esc clears it   Enter details  p pause  r restart  a ack  q quit",
                model.filter
            )
        }
        (Mode::List | Mode::Help, None) => {
            "q quit  ? help  / filter  s sort  Enter details  p pause  r restart  a ack".to_owned()
        }
    };
    Line::styled(format!(" {text}"), Style::new().add_modifier(Modifier::REVERSED))
}

fn help(look: Look, frame: &mut Frame<'_>) {
    let lines = [
        "up, down, j, k     choose a service",
        "PgUp, PgDn, g, G   a page, to the first, to the last",
        "Enter              its open incident, with its evidence",
        "/                  show the services with this in their name or state",
        "s                  sort by need, name, answer, CPU, memory",
        "p                  pause it for 30 min, or resume it",
        "r                  restart it",
        "a                  acknowledge its incident",
        "q, Ctrl-C          quit",
        "",
        "CPU and memory are of the main process and its children, CPU",
        "in percent of one core. Any key closes this.",
    ];
    let screen = frame.area();
    let (width, height) = (66.min(screen.width), (lines.len() as u16 + 2).min(screen.height));
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    frame.render_widget(Clear, area);
    let text = plain(lines.into_iter().map(|line| format!(" {line}")).collect());
    frame.render_widget(Paragraph::new(text).block(look.block().title(" keys ")), area);
}
