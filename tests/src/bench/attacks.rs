//! Whether hostile surroundings cost the daemon memory and CPU, or a neighbour the detection of its death.

<<<<<<< HEAD
use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};
=======
use std::{fmt::Write as _, time::Duration};
>>>>>>> 2e4782c (The attacks have a harness of their own, more kinds, a table in the benchmark and a short run in the suite)

use anyhow::{Context, Result};

use super::{
    section::{Effort, Row, Section, Unit},
    stats::Summary,
};
<<<<<<< HEAD
use crate::{
    daemon::Daemon,
    hostile_server::Answer,
    http::free_port,
    incident_events::IncidentEvents,
    parts::built,
    process::{Running, peak_resident},
    supervised::Supervised,
};

/// Connections that each of two processes holds: together more than the map of unwatched owners does.
const HELD: u32 = 9000;

const LONG: Duration = Duration::from_secs(60);
=======
use crate::attack::{ATTACKS, Attack, Outcome, run};
>>>>>>> 2e4782c (The attacks have a harness of their own, more kinds, a table in the benchmark and a short run in the suite)

/// A neighbour's death may be detected this much later than in quiet surroundings.
const FACTOR: f64 = 2.0;

const METHOD: &str = "A service under the supervisor is killed again and again, first in quiet surroundings, then under each attack, \
and this several times over. The time is from the kernel's record of the death to its detection; memory is the greatest resident \
size of the daemon, CPU that of the time in which the service is killed, lines are those of the stream and of the log.";

pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, kills, least) =
        effort.pick((3, 20, Duration::from_secs(5)), (1, 3, Duration::from_millis(500)));
    let mut outcomes: Vec<Vec<Outcome>> = ATTACKS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (attack, outcomes) in ATTACKS.iter().zip(&mut outcomes) {
            eprintln!("  {}", attack.name);
            outcomes.push(run(attack, kills, least).context(attack.name)?);
        }
    }
    let detected = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().flat_map(|outcome| outcome.detected_ns.iter().copied()).collect()
    };
    let quiet = Summary::of(&detected(&outcomes[0])).context("no death was detected")?.median;
    let mut rows = Vec::new();
    for (attack, outcomes) in ATTACKS.iter().zip(&outcomes) {
        let name = format!("detection of a neighbour's death: {}", attack.name);
        let row = Row::new(&name, Unit::Nanoseconds).of("hostprobe", &detected(outcomes));
        let median = row.summary("hostprobe").context("no death was detected")?.median;
        let times = Unit::Times.show(median / quiet);
        rows.push(row.target(&format!("≤ {FACTOR} × quiet"), times, median <= FACTOR * quiet));
    }
    Ok(Section {
        name: "attacks".to_owned(),
        title: "Hostile surroundings".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: table(ATTACKS, &outcomes, quiet),
        unmeasured: Vec::new(),
    })
}

<<<<<<< HEAD
fn run(attack: &Attack, kills: usize) -> Result<Outcome> {
    let folder = TempDir::new()?;
    let (service, page) = (Supervised::new(), free_port());
    let restart = "[service.restart]\nbudget = \"1000 per 1h\"\n";
    let config = service.config(restart).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let daemon = Daemon::start(&format!("{config}{}", (attack.prepare)(folder.path())?), &[]);
    daemon.ready();
    service.until_healthy(&daemon);
    let _held = (attack.begin)(page)?;
    let mut detected_ns = Vec::new();
    let used = thread::scope(|scope| -> Result<_> {
        let pid = daemon.pid();
        let used = scope.spawn(move || usage::window(&[vec![pid]], Duration::from_secs(2)));
        for _ in 0..kills {
            let mark = daemon.mark();
            service.kill(&daemon);
            detected_ns.push(IncidentEvents::of(&daemon, mark, &service.name).millis("detected") * 1e6);
        }
        used.join().map_err(|_| anyhow::anyhow!("the measurement failed"))?
    })?;
    let resident = peak_resident(daemon.pid()) as f64;
    Ok(Outcome { detected_ns, resident, cpu_percent: used[0].percent() })
}

fn nothing(_: &Path) -> Result<String> {
    Ok(String::new())
}

fn idle(_: u16) -> Result<Held> {
    Ok(Held::default())
}

fn half_sent(page: u16) -> Result<Held> {
    let address = SocketAddr::from(([127, 0, 0, 1], page));
    let mut streams = Vec::new();
    for _ in 0..1500 {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { continue };
        // It may have been closed for the next one already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
        streams.push(stream);
    }
    Ok(Held { _streams: streams, ..Held::default() })
}

fn connections(_: u16) -> Result<Held> {
    let held = HELD.to_string();
    let start = || {
        let process = Running::start(Command::new(built("connects")).args(["held", &held]), Signal::KILL);
        process.wait_until_it_says("ready", &process.stdout, LONG);
        process.signal(Signal::USR1);
        process.wait_until_it_says(&format!("made {held}"), &process.stdout, LONG);
        process
    };
    Ok(Held { _processes: vec![start(), start()], ..Held::default() })
}

fn paths(folder: &Path) -> Result<String> {
    let at = |name: &str| folder.join(name);
    for name in ["fifo", "output"] {
        mknodat(CWD, at(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    symlink("/dev/zero", at("zero"))?;
    File::create(at("sparse"))?.set_len(3 << 30)?;
    fs::create_dir(at("folder"))?;
    let mut config = format!(
        "[[service]]\nname = \"mute\"\nexec = [\"/bin/sleep\", \"60\"]\noutput = {:?}\n",
        at("output").display().to_string()
=======
/// Each attack with what it cost.
fn table(attacks: &[Attack], outcomes: &[Vec<Outcome>], quiet: f64) -> String {
    let mut table = String::from(
        "\n| attack | what it does | greatest memory | CPU | lines a second | detection, median | against quiet |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
>>>>>>> 2e4782c (The attacks have a harness of their own, more kinds, a table in the benchmark and a short run in the suite)
    );
    for (attack, outcomes) in attacks.iter().zip(outcomes) {
        let most = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max);
        let detected: Vec<f64> = outcomes.iter().flat_map(|it| it.detected_ns.iter().copied()).collect();
        let median = Summary::of(&detected).map_or(f64::NAN, |summary| summary.median);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {:.0} | {} | {} |",
            attack.name,
            attack.what,
            Unit::Bytes.show(most(|outcome| outcome.resident)),
            Unit::Percent.show(most(|outcome| outcome.cpu_percent)),
            most(|outcome| outcome.lines_per_second),
            Unit::Nanoseconds.show(median),
            Unit::Times.show(median / quiet),
        );
    }
<<<<<<< HEAD
    Ok(config)
}

fn servers(_: &Path) -> Result<String> {
    let huge = Answer::HugeMessage.serve()?;
    let (endless_head, endless_body) = (Answer::EndlessHead.serve()?, Answer::EndlessBody.serve()?);
    let probe = |name: &str, address: String| {
        format!(
            "[[service]]\nname = {name:?}\n[[service.probe]]\n{address}\ninterval = \"200ms\"\ntimeout = \"1s\"\n"
        )
    };
    Ok([
        probe("huge", format!("postgres = \"postgres://probe@127.0.0.1:{huge}/x?sslmode=disable\"")),
        probe("endless-head", format!("http = \"http://127.0.0.1:{endless_head}/\"")),
        probe(
            "endless-body",
            format!("http = \"http://127.0.0.1:{endless_body}/\"\nexpect = {{ body_contains = \"never\" }}"),
        ),
    ]
    .concat())
=======
    table
>>>>>>> 2e4782c (The attacks have a harness of their own, more kinds, a table in the benchmark and a short run in the suite)
}
