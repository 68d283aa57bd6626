//! Where the view's inputs come from. Each source that may wait has a thread, so that keys are answered at once.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use hostprobe::{
    emit::wire::Record,
    host::ProcReader,
    serve::{
        control::{Answer, Operation, Request, Streamed},
        status::Status,
    },
    store::history::Explanation,
};
use ratatui::crossterm::event::{self, Event, KeyEvent};

use super::{
    super::ask::{Daemon, Failure, another_question},
    local::{Local, Reader},
};

/// How often the services are asked for.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// How often the host is read, at least. It takes at most a twentieth of one CPU.
const LOCAL_EVERY: Duration = Duration::from_secs(2);
const LOCAL_SHARE: u32 = 20;

/// The wait before the next try to watch the events of a daemon that went away.
const PAUSE: Duration = Duration::from_secs(1);

/// Inputs that wait for the view. A source without room waits.
const ROOM: usize = 256;

/// Something that the view shows or obeys.
#[derive(Debug)]
pub enum Input {
    Key(KeyEvent),
    Resized,
    Status(Box<Status>),
    /// The daemon does not answer, and why.
    Down(String),
    Event(Box<Record>),
    Local(Box<Local>),
    Explanation(Result<Box<Explanation>, String>),
    /// The outcome of an operator's command.
    Outcome(Result<String, String>),
}

/// What the view asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Explain(String),
    Operate(Operation),
}

/// The inputs, and the way to ask.
pub struct Feed {
    pub inputs: Receiver<Input>,
    pub orders: SyncSender<Order>,
}

/// Starts the sources. They end with the process.
///
/// # Errors
/// If no thread can be started.
pub fn start(daemon: &Daemon) -> io::Result<Feed> {
    let (to, inputs) = sync_channel(ROOM);
    let (orders, asked) = sync_channel(1);
    let mains = Arc::new(Mutex::new(Vec::new()));
    let source = |run: Box<dyn FnOnce() -> Ended + Send>| thread::Builder::new().spawn(run);
    source(Box::new({
        let to = to.clone();
        move || keys(&to)
    }))?;
    source(Box::new({
        let (to, daemon, mains) = (to.clone(), daemon.clone(), Arc::clone(&mains));
        move || status(&daemon, &mains, &to)
    }))?;
    source(Box::new({
        let (to, daemon) = (to.clone(), daemon.clone());
        move || events(&daemon, &to)
    }))?;
    source(Box::new({
        let to = to.clone();
        move || local(&mains, &to)
    }))?;
    let daemon = daemon.clone();
    source(Box::new(move || answers(&daemon, &asked, &to)))?;
    Ok(Feed { inputs, orders })
}

/// A source ends when the view is gone.
type Ended = Option<()>;

fn keys(to: &SyncSender<Input>) -> Ended {
    loop {
        match event::read().ok()? {
            Event::Key(key) if key.is_press() => to.send(Input::Key(key)).ok()?,
            Event::Resize(..) => to.send(Input::Resized).ok()?,
            Event::Key(_) | Event::Mouse(_) | Event::Paste(_) | Event::FocusGained | Event::FocusLost => {}
        }
    }
}

fn status(daemon: &Daemon, mains: &Mutex<Vec<u32>>, to: &SyncSender<Input>) -> Ended {
    loop {
        let begun = Instant::now();
        let input = match daemon.ask(&Request::Status) {
            Ok(Answer::Status(status)) => {
                let pids = status.services.iter().filter_map(|service| service.main_pid).collect();
                *mains.lock().unwrap_or_else(PoisonError::into_inner) = pids;
                Input::Status(status)
            }
            Ok(_) => Input::Down(said(another_question())),
            Err(failure) => Input::Down(said(failure)),
        };
        to.send(input).ok()?;
        thread::sleep(STATUS_EVERY.saturating_sub(begun.elapsed()));
    }
}

fn events(daemon: &Daemon, to: &SyncSender<Input>) -> Ended {
    let mut last = None;
    loop {
        let watched = daemon.watch(last.clone());
        if let Ok(mut events) = watched {
            while let Ok(Some(streamed)) = events.next() {
                let Streamed::Event(json) = streamed else { continue };
                let Ok(record) = serde_json::from_str::<Record>(json.get()) else { continue };
                last = Some(record.event.id.clone());
                to.send(Input::Event(Box::new(record))).ok()?;
            }
        }
        // The status says what is wrong.
        thread::sleep(PAUSE);
    }
}

fn local(mains: &Mutex<Vec<u32>>, to: &SyncSender<Input>) -> Ended {
    let mut reader = Reader::new(ProcReader::new("/").ok()?);
    loop {
        let begun = Instant::now();
        let mains = mains.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let local = reader.read(&mains);
        let rest = (begun.elapsed() * LOCAL_SHARE).max(LOCAL_EVERY);
        to.send(Input::Local(Box::new(local))).ok()?;
        thread::sleep(rest);
    }
}

fn answers(daemon: &Daemon, asked: &Receiver<Order>, to: &SyncSender<Input>) -> Ended {
    loop {
        let order = asked.recv().ok()?;
        to.send(answer(daemon, order)).ok()?;
    }
}

fn answer(daemon: &Daemon, order: Order) -> Input {
    match order {
        Order::Explain(incident) => Input::Explanation(explanation(daemon, incident).map_err(said)),
        Order::Operate(operation) => Input::Outcome(outcome(daemon, operation).map_err(said)),
    }
}

fn explanation(daemon: &Daemon, incident: String) -> Result<Box<Explanation>, Failure> {
    let Answer::Explanation(explanation) = daemon.ask(&Request::Explain { incident })? else {
        return Err(another_question());
    };
    Ok(explanation)
}

fn outcome(daemon: &Daemon, operation: Operation) -> Result<String, Failure> {
    let Answer::Done(done) = daemon.ask(&Request::Operate(operation))? else {
        return Err(another_question());
    };
    Ok(done)
}

fn said(failure: Failure) -> String {
    failure.to_string()
}
