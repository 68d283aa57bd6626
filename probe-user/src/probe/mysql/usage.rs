//! The users of a MySQL server's connections, from its list of processes.

use std::{collections::HashMap, net::IpAddr};

use crate::{
    fact::Holder,
    probe::usage::{HOLDERS, PORTS},
};

/// User and host of each connection; without the right PROCESS, of the user's own ones.
pub(super) const CLIENTS: &str =
    "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon' LIMIT 8000";

/// The largest holders of these connections, largest first.
pub(super) fn holders(clients: Vec<(Option<String>, Option<String>)>) -> Vec<Holder> {
    let mut holders: HashMap<(String, String), Holder> = HashMap::new();
    for (user, host) in clients {
        let (user, host) = (user.unwrap_or_default(), host.unwrap_or_default());
        let (name, port) = split(&host);
        let holder = holders.entry((user, name.to_owned())).or_default();
        holder.connections = holder.connections.saturating_add(1);
        holder.client = address(name, port);
        // A port without its address is no use.
        holder.ports.extend(port.filter(|_| holder.client.is_some() && holder.ports.len() < PORTS));
    }
    let mut holders: Vec<((String, String), Holder)> = holders.into_iter().collect();
    holders.sort_by(|(a, one), (b, other)| other.connections.cmp(&one.connections).then_with(|| a.cmp(b)));
    holders.truncate(HOLDERS);
    let named = |((user, _), holder): ((String, String), Holder)| Holder {
        user: Some(user).filter(|user| !user.is_empty()),
        ..holder
    };
    holders.into_iter().map(named).collect()
}

/// Name or address, and port; a client over a Unix socket has no port.
fn split(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        Some((_, Err(_))) | None => (host, None),
    }
}

/// A server that looks up names shows `localhost` for its own host, with a port where it is TCP.
fn address(name: &str, port: Option<u16>) -> Option<IpAddr> {
    port?;
    if name == "localhost" { Some([127, 0, 0, 1].into()) } else { name.trim_matches(['[', ']']).parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_summed_up_by_user_and_host() {
        let mut clients = vec![("root", "localhost"), ("web", "10.0.0.1:5001"), ("web", "10.0.0.1:5002")];
        clients.extend([("web", "db.example:5003"), ("job", "::1:5004"), ("job", "localhost:5005")]);
        let clients = clients.into_iter().map(|(user, host)| (Some(user.to_owned()), Some(host.to_owned())));
        let holders = holders(clients.collect());
        let seen: Vec<_> = holders
            .iter()
            .map(|holder| {
                let user = holder.user.as_deref().unwrap_or_default();
                (user, holder.client.map(|ip| ip.to_string()), holder.ports.clone(), holder.connections)
            })
            .collect();
        let ip = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [
                ("web", ip("10.0.0.1"), vec![5001, 5002], 2),
                ("job", ip("::1"), vec![5004], 1),
                ("job", ip("127.0.0.1"), vec![5005], 1),
                ("root", None, vec![], 1),
                ("web", None, vec![], 1),
            ]
        );
    }

    #[test]
    fn a_thousand_users_are_eight_holders_and_a_thousand_ports_are_sixty_four() {
        let users = (0..1000).map(|n| (Some(format!("u{n}")), Some("h:1".to_owned())));
        assert_eq!(holders(users.collect()).len(), HOLDERS);
        let ports = (1..=1000).map(|n| (Some("u".to_owned()), Some(format!("10.0.0.1:{n}"))));
        let holders = holders(ports.collect());
        assert_eq!((holders[0].connections, holders[0].ports.len()), (1000, PORTS));
    }
}
