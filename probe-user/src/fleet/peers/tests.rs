use super::*;
use crate::fleet::message::{Cause, HeldService, OpenIncident, ServiceState};

const API: ServiceId = ServiceId(0);
const REDIS: &str = "10.9.0.1:6379";

struct Lab {
    peers: Peers,
    start: Instant,
}

impl Lab {
    /// The host `web`, connected for long, whose API connects to Redis on `db`.
    fn new() -> Self {
        let start = Instant::now();
        let mut peers = Peers::new("web", Names::default());
        peers.on_connected(start);
        peers.connect(API, REDIS.parse().unwrap(), start);
        Self { peers, start }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn alive(&mut self, host: &str, seconds: u64) {
        let alive = Alive { run: "c0ffee00".to_owned(), leaves: false, watches: true };
        self.peers.on_alive(host, alive, "1", self.at(seconds));
    }

    fn claim(&mut self, host: &str, seconds: u64) {
        self.peers.on_claim([10, 9, 0, 1].into(), host, self.at(seconds));
    }

    fn state(&mut self, host: &str, verdict: Option<&str>, seconds: u64) {
        let incident = verdict.map(|verdict| OpenIncident {
            verdict: verdict.to_owned(),
            confidence: 1.0,
            ..OpenIncident::default()
        });
        let redis = ServiceState {
            name: "redis".to_owned(),
            state: "x".to_owned(),
            ports: vec![6379],
            blocks: incident.is_some(),
            incident,
        };
        let now = self.at(seconds);
        self.peers.on_state(host, State { services: vec![redis], left_out: 0 }, now);
    }

    fn standings(&mut self, seconds: u64) -> Vec<(String, ForeignStanding)> {
        let now = self.at(seconds);
        let reports = self.peers.reports(now);
        let foreign = reports.into_iter().filter_map(|report| match report {
            Report::Foreign(it) => Some((it.name, it.standing)),
            Report::Held { .. } | Report::Fleet(_) => None,
        });
        foreign.collect()
    }

    /// What is reported as silent by then, by a host that hears itself.
    fn silent(&mut self, seconds: u64) -> Option<Vec<String>> {
        self.alive("web", seconds);
        self.silent_by(seconds)
    }

    fn silent_by(&mut self, seconds: u64) -> Option<Vec<String>> {
        let now = self.at(seconds);
        self.peers.reports(now).into_iter().find_map(|report| match report {
            Report::Fleet(state) => Some(state.silent),
            Report::Foreign(_) | Report::Held { .. } => None,
        })
    }
}

#[test]
fn a_failure_at_an_address_that_one_host_alone_claims_is_reported_once() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    lab.state("db", None, 1);
    assert_eq!(lab.standings(1), [("redis on db".to_owned(), ForeignStanding::Well)]);
    assert_eq!(lab.standings(1), []);
    lab.state("db", Some("oom_killed"), 2);
    let reported = lab.standings(2);
    assert!(
        matches!(&reported[0].1, ForeignStanding::Failed(fault) if fault.verdict.as_str() == "oom_killed")
    );
    lab.state("db", Some("of_a_later_version"), 3);
    assert!(matches!(&lab.standings(3)[0].1, ForeignStanding::Unknown(_)));
}

#[test]
fn a_failure_that_this_host_causes_is_no_cause_here() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    lab.state("db", Some("dependency_down"), 1);
    assert!(matches!(lab.standings(1)[0].1, ForeignStanding::Failed(_)));
    let cause = |host: &str| Cause { host: host.to_owned(), service: "api".to_owned() };
    let (mut state, _) = lab.peers.states["db"].clone();
    state.services[0].incident.as_mut().unwrap().chain = vec![cause("cache"), cause("web")];
    lab.peers.on_state("db", state, lab.at(2));
    assert_eq!(lab.standings(2), [("redis on db".to_owned(), ForeignStanding::Well)]);
    let mut own = State::default();
    let chain = vec![Cause { host: "db".to_owned(), service: "redis".to_owned() }];
    let incident = Some(OpenIncident { chain, ..OpenIncident::default() });
    own.services.push(ServiceState { incident, ..ServiceState::default() });
    let hosts: Vec<String> = lab
        .peers
        .with_chains(own)
        .services
        .remove(0)
        .incident
        .unwrap()
        .chain
        .into_iter()
        .map(|it| it.host)
        .collect();
    assert_eq!(hosts, ["db", "cache", "web"]);
}

#[test]
fn an_address_that_two_hosts_claim_is_nobodys_and_a_claim_of_no_use_is_not_kept() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    lab.claim("liar", 1);
    lab.state("liar", Some("oom_killed"), 1);
    lab.state("db", None, 1);
    assert_eq!(lab.standings(1), []);
    lab.peers.on_claim([10, 9, 0, 99].into(), "liar", lab.at(1));
    assert_eq!(lab.peers.claims.len(), 1, "nothing here connects to it");
    for number in 0..100 {
        lab.claim(&format!("liar-{number}"), 1);
    }
    assert!(lab.peers.claims.values().all(|claims| claims.len() <= CLAIMS_MAX));
    lab.claim("db", 12);
    lab.state("db", None, 12);
    assert_eq!(lab.standings(12).len(), 1, "the other claims are old");
}

#[test]
fn what_is_known_becomes_unknown_with_its_host_and_with_nats() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    lab.state("db", Some("killed"), 1);
    lab.standings(1);
    let silent = lab.standings(11);
    assert!(
        matches!(&silent[0].1, ForeignStanding::Unknown(why) if why.contains("db is silent")),
        "{silent:?}"
    );
    lab.claim("db", 12);
    lab.state("db", Some("killed"), 12);
    assert_eq!(lab.standings(12).len(), 1);
    lab.peers.on_disconnected("NATS cannot be reached");
    let away = lab.standings(13);
    assert!(matches!(&away[0].1, ForeignStanding::Unknown(why) if why.contains("NATS cannot be reached")));
}

#[test]
fn one_host_reports_a_silent_one_and_a_host_that_leaves_is_not_silent() {
    let mut reporters = 0;
    for me in ["web", "api", "cache"] {
        let mut lab = Lab::new();
        lab.peers.me = me.to_owned();
        for host in ["web", "api", "cache", "db"] {
            lab.alive(host, 1);
        }
        for host in ["web", "api", "cache"] {
            lab.alive(host, 10);
        }
        lab.silent(10);
        reporters += usize::from(lab.silent(12).is_some_and(|silent| silent == ["db"]));
        let leaving = Alive { run: "c0ffee00".to_owned(), leaves: true, watches: false };
        lab.peers.on_alive("db", leaving, "1", lab.at(13));
        assert_eq!(lab.silent(13).unwrap_or_default(), [""; 0]);
    }
    assert_eq!(reporters, 1);
}

#[test]
fn while_nats_is_away_and_shortly_after_no_host_is_silent() {
    let mut lab = Lab::new();
    lab.alive("db", 1);
    lab.silent(1);
    lab.peers.on_disconnected("NATS cannot be reached");
    assert_eq!(lab.silent(20), Some(Vec::new()));
    lab.peers.on_connected(lab.at(30));
    assert_eq!(lab.silent(31), Some(Vec::new()));
    assert_eq!(lab.silent(39), None);
    assert_eq!(lab.silent(41), Some(vec!["db".to_owned()]));
}

#[test]
fn two_hosts_of_one_name_are_noticed() {
    let mut peers = Peers::new("web", Names::default());
    let alive = |run: &str| Alive { run: run.to_owned(), leaves: false, watches: false };
    assert!(peers.on_alive("web", alive("1"), "1", Instant::now()));
    assert!(!peers.on_alive("web", alive("2"), "1", Instant::now()));
}

#[test]
fn what_is_held_elsewhere_is_reported_once_while_it_lasts() {
    let mut lab = Lab::new();
    let held = || Held { services: vec![HeldService { cause: "cache".to_owned(), held: "shop".to_owned() }] };
    let reported = |lab: &mut Lab| {
        let now = lab.at(1);
        lab.peers.reports(now).into_iter().filter(|it| matches!(it, Report::Held { .. })).count()
    };
    lab.peers.on_held("db", held());
    lab.peers.on_held("db", held());
    assert_eq!(reported(&mut lab), 1);
    lab.peers.on_held("db", Held::default());
    lab.peers.on_held("db", held());
    assert_eq!(reported(&mut lab), 1);
}

#[test]
fn hosts_that_are_lost_together_are_reported_by_one_host() {
    let mut reporters = 0;
    for me in ["web", "api", "cache"] {
        let mut lab = Lab::new();
        lab.peers.me = me.to_owned();
        let lost: Vec<String> = (0..100).map(|number| format!("db-{number}")).collect();
        for host in ["web", "api", "cache"].into_iter().chain(lost.iter().map(String::as_str)) {
            lab.alive(host, 1);
        }
        for host in ["web", "api", "cache"] {
            lab.alive(host, 10);
        }
        lab.silent(10);
        match lab.silent(12).map_or(0, |silent| silent.len()) {
            0 => {}
            count => {
                assert_eq!(count, lost.len());
                reporters += 1;
            }
        }
    }
    assert_eq!(reporters, 1);
}

#[test]
fn a_host_that_did_not_hear_all_before_is_not_left_to_report_a_silent_one() {
    let mut lab = Lab::new();
    let earlier = (0..).map(|number| format!("host-{number}")).find(|host| rank(host) < rank("web"));
    let earlier = earlier.expect("there is one");
    let alive = |watches| Alive { run: "c0ffee00".to_owned(), leaves: false, watches };
    lab.alive("db", 1);
    lab.peers.on_alive(&earlier, alive(false), "1", lab.at(1));
    lab.peers.on_alive(&earlier, alive(true), "1", lab.at(8));
    lab.silent(8);
    assert_eq!(lab.silent(12), Some(vec!["db".to_owned()]));
}

#[test]
fn a_service_that_connects_to_many_addresses_takes_no_room_of_the_fleet() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    for number in 0..2000_u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number);
        lab.peers.connect(ServiceId(1), (address, 443).into(), lab.at(1 + u64::from(number) / 10));
    }
    assert!(lab.peers.addresses().count() <= ADDRESSES_MAX);
    assert!(lab.peers.remotes.len() <= CONNECTIONS_MAX);
    let (now, has) = (lab.at(200), |lab: &Lab, address: [u8; 4]| {
        lab.peers.addresses().any(|it| it == IpAddr::from(address))
    });
    lab.peers.connect(ServiceId(2), "10.9.0.7:5432".parse().unwrap(), now);
    assert!(has(&lab, [10, 9, 0, 7]), "a new one has room");
    assert!(has(&lab, [10, 9, 0, 1]), "a claimed one stays");
}

#[test]
fn claims_and_states_of_hosts_that_are_gone_are_forgotten() {
    let mut lab = Lab::new();
    lab.claim("db", 1);
    lab.state("db", None, 1);
    assert!(lab.peers.take_wants_others());
    lab.peers.forget_old(lab.at(700));
    assert!(lab.peers.claims.is_empty() && lab.peers.states.is_empty());
    assert!(lab.peers.take_wants_others() && lab.peers.wanted().is_empty());
}

#[test]
fn a_host_that_hears_not_even_itself_reports_no_other_as_silent() {
    let mut lab = Lab::new();
    for second in [1, 4, 7] {
        lab.alive("db", second);
        lab.alive("web", second);
    }
    assert_eq!(lab.silent_by(8), Some(vec![]));
    assert_eq!(lab.silent_by(60), None, "its connection is lost");
    assert_eq!(lab.silent(61), Some(vec!["db".to_owned()]), "it is heard again, and the other is not");
}
