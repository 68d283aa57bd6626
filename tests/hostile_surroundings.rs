//! A short run of each attack that `cargo xtask bench attacks` measures: the daemon stays small and quiet, and restarts
//! its neighbour each time that it is killed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hostprobe_tests::{
    attack::{ATTACKS, run},
    parts::require_root,
};

/// Deaths of the neighbour amid each attack.
const KILLS: usize = 3;

/// The daemon and a few megabytes for its tables; what it lets others fill takes gigabytes.
const RESIDENT_MAX: f64 = 200e6;

/// Its own lines about the neighbour, and those that budgets allow to others.
const LINES_PER_SECOND_MAX: f64 = 1000.0;

/// One at a time: an attack is no neighbour of another one's.
fn stands(name: &str) {
    static ALONE: Mutex<()> = Mutex::new(());
    if !require_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("an attack of this name");
    let outcome = run(attack, KILLS, Duration::from_secs(2)).expect("it can be carried out");
    eprintln!("{name}: {outcome:?}");
    assert!(outcome.detected_ns.len() >= KILLS, "{outcome:?}");
    assert!(outcome.resident < RESIDENT_MAX, "{outcome:?}");
    assert!(outcome.lines_per_second < LINES_PER_SECOND_MAX, "{outcome:?}");
}

/// A test of each attack, and one that none is missing.
macro_rules! attacks {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                stands($name);
            }
        )*

        #[test]
        fn every_attack_has_its_test() {
            let tested = BTreeSet::from([$($name),*]);
            assert_eq!(tested, ATTACKS.iter().map(|attack| attack.name).collect());
        }
    };
}

attacks! {
    quiet_surroundings_cost_little: "quiet",
    half_sent_requests_cost_little_and_no_restart: "half-sent requests",
    requests_without_end_cost_little_and_no_restart: "requests without end",
    clients_that_do_not_read_cost_little_and_no_restart: "clients that do not read",
    paths_that_lead_to_no_file_cost_little_and_no_restart: "files",
    endless_postgres_servers_cost_little_and_no_restart: "PostgreSQL servers",
    endless_mysql_servers_cost_little_and_no_restart: "MySQL servers",
    endless_redis_servers_cost_little_and_no_restart: "Redis servers",
    endless_http_servers_cost_little_and_no_restart: "HTTP servers",
    servers_that_drip_cost_little_and_no_restart: "servers that drip",
    endless_receivers_of_alerts_cost_little_and_no_restart: "alert receivers",
    a_crowd_of_connections_costs_little_and_no_restart: "connections",
    a_flood_of_listeners_costs_little_and_no_restart: "listeners",
    a_storm_of_forks_costs_little_and_no_restart: "forks",
    deaths_under_a_hostile_name_cost_little_and_no_restart: "deaths by signal",
    long_and_changing_command_lines_cost_little_and_no_restart: "command lines",
    cgroups_under_hostile_names_cost_little_and_no_restart: "cgroups",
    dying_workers_of_a_service_cost_little_and_no_restart: "a service's workers",
    changing_listeners_of_a_service_cost_little_and_no_restart: "a service's listeners",
    stops_of_a_service_cost_little_and_no_restart: "a service's stops",
    a_flood_of_the_kernel_log_costs_little_and_no_restart: "kernel log",
    a_blocked_reader_costs_little_and_no_restart: "a blocked reader",
}
