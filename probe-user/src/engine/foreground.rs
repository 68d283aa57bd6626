//! How programs that put themselves into the background are kept in the foreground.

/// A daemon's name, or the name of what starts it, and what to write in `exec` instead.
const PROGRAMS: [(&[&str], &str); 29] = [
    (&["apache2", "httpd", "apachectl", "apache2ctl"], "add `-DFOREGROUND`"),
    (&["chronyd"], "add `-d`"),
    (&["cron", "crond"], "add `-f`"),
    (&["dnsmasq"], "add `--keep-in-foreground`"),
    (&["exim", "exim4"], "replace `-bd` by `-bdf`"),
    (&["gunicorn"], "leave out `--daemon`"),
    (&["haproxy"], "add `-db`, or `-Ws` in place of `-D`"),
    (&["keepalived"], "add `--dont-fork`"),
    (&["lighttpd"], "add `-D`"),
    (&["memcached"], "leave out `-d`"),
    (&["monit"], "add `-I`"),
    (&["mosquitto"], "leave out `-d`"),
    (&["named"], "add `-f`"),
    (&["nginx"], "add `-g \"daemon off;\"`"),
    (&["ntpd"], "add `-n`"),
    (&["openvpn"], "leave out `--daemon`"),
    (&["pgbouncer"], "leave out `-d`"),
    (&["php-fpm"], "add `--nodaemonize`"),
    (&["postfix", "master"], "use `postfix start-fg`"),
    (&["postgres", "pg_ctl", "pg_ctlcluster"], "use `postgres -D …` in place of pg_ctl"),
    (&["proftpd"], "add `--nodaemon`"),
    (&["redis-server", "valkey-server"], "add `--daemonize no`"),
    (&["rsyslogd"], "add `-n`"),
    (&["slapd"], "add `-d 0`"),
    (&["squid"], "add `--foreground`"),
    (&["sshd"], "add `-D`"),
    (&["supervisord"], "add `--nodaemon`"),
    (&["unbound"], "add `-d`"),
    (&["uwsgi"], "leave out `--daemonize`"),
];

/// What to write so that hostprobe supervises the daemon itself. The names are those of the command and of the daemon.
pub fn hint(names: &[&str]) -> String {
    let fits = |program: &str| names.iter().any(|name| is_version_of(name, program));
    let known = PROGRAMS.iter().find(|(programs, _)| programs.iter().any(|program| fits(program)));
    let foreground = known.map_or("use its option for the foreground", |(_, hint)| hint);
    format!("keep it in the foreground ({foreground}), or use `match = {{ pidfile = … }}` in place of `exec`")
}

/// Debian's names have versions: `php-fpm8.2`.
fn is_version_of(name: &str, program: &str) -> bool {
    let version = name.strip_prefix(program);
    version.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_known_program_has_its_own_hint() {
        assert!(hint(&["nginx"]).contains("daemon off;"));
        assert!(hint(&["pg_ctl", "postgres"]).contains("postgres -D"));
        assert!(hint(&["start.sh", "redis-server"]).contains("--daemonize no"));
        assert!(hint(&["php-fpm8.2"]).contains("--nodaemonize"));
        assert!(hint(&["own-daemon"]).contains("its option for the foreground"));
        assert!(hint(&["crontab-web"]).contains("pidfile"));
    }
}
