//! `hostprobe status --watch`: the services, the host and the events as they change, in a terminal.
//!
//! `watch/feed.rs` gets the inputs, `watch/model.rs` takes them in, `watch/screen.rs` draws. ratatui writes the cells of the
//! terminal that changed, and no others.

mod feed;
mod local;
mod model;
mod screen;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use super::{
    ask::{Daemon, Failure},
    output::{BAD_CONFIG, NOT_POSSIBLE},
};
use feed::Order;
use model::{Model, Next};
use screen::Look;

/// The shortest time between two drawings: more is not seen, and a slow line cannot show it.
const FRAME: Duration = Duration::from_millis(50);

/// Shows the view until it is quit.
pub fn run(daemon: &Daemon) -> ExitCode {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        let why = "--watch needs a terminal; `hostprobe status` and `hostprobe events --follow` do not";
        return Failure::new(why, BAD_CONFIG).end();
    }
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            return Failure::new(format!("the terminal cannot be used: {error}"), NOT_POSSIBLE).end();
        }
    };
    let shown = show(daemon, &mut terminal);
    ratatui::restore();
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Failure::new(format!("the terminal cannot be written to: {error}"), 1).end(),
    }
}

fn show(daemon: &Daemon, terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
    let (mut model, look, feed) = (Model::default(), Look::of_environment(), feed::start(daemon)?);
    let mut is_stale = true;
    let mut drawn: Option<Instant> = None;
    loop {
        let rest = drawn.map_or(Duration::ZERO, |drawn| FRAME.saturating_sub(drawn.elapsed()));
        if is_stale && rest.is_zero() {
            terminal.draw(|frame| screen::draw(&mut model, look, frame))?;
            (is_stale, drawn) = (false, Some(Instant::now()));
        }
        // Without a change there is nothing to do until the next input.
        let wait = if is_stale { rest } else { Duration::from_secs(3600) };
        let input = match feed.inputs.recv_timeout(wait) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        match model.take(input) {
            Next::Show => is_stale = true,
            Next::Wait => {}
            Next::Quit => return Ok(()),
            Next::Ask(order) => {
                is_stale = true;
                ask(&feed.orders, order, &mut model);
            }
        }
    }
}

/// Passes an order on, unless another one is under way.
fn ask(orders: &std::sync::mpsc::SyncSender<Order>, order: Order, model: &mut Model) {
    if orders.try_send(order).is_err() {
        model.said = Some("the command before this one is still under way".to_owned());
    }
}
