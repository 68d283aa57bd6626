use std::{
    fs,
    os::{fd::IntoRawFd as _, unix::fs::PermissionsExt as _},
    path::PathBuf,
    ptr,
};

use rustix::process::{DumpableBehavior, Resource};

use super::*;
use crate::{
    account,
    config::{ResourceLimit, Secret},
};

fn exec(command: &[&str], directory: &str) -> Exec {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let environment = vec![("GREETING".to_owned(), Secret::new("hello"))];
    Exec { command, directory: PathBuf::from(directory), environment, ..Exec::default() }
}

async fn run(command: &[&str], directory: &str) -> Result<(u32, String), SpawnError> {
    run_exec(&exec(command, directory)).await
}

async fn run_exec(exec: &Exec) -> Result<(u32, String), SpawnError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let output = OwnedFd::from(File::create(&path).unwrap());
    let status = spawn(exec, &output, &output, None)?.wait().await.unwrap();
    Ok((status.expect("an own child has a status"), fs::read_to_string(path).unwrap()))
}

/// The kind of the error of a failed call.
fn kind(error: SpawnError) -> io::ErrorKind {
    if let SpawnError::Call(error) | SpawnError::Directory { source: error, .. } = error {
        return error.kind();
    }
    panic!("{error}")
}

#[tokio::test]
async fn a_command_runs_in_its_folder_and_group_and_writes_its_output() {
    let script = "pwd; cat; echo error >&2; [ $(ps -o pgid= -p $$) = $$ ] && exit 7";
    let (status, output) = run(&["/bin/sh", "-c", script], "/usr").await.unwrap();
    assert_eq!((status, output.as_str()), (7 << 8, "/usr\nerror\n"));
}

#[tokio::test]
async fn a_wait_status_distinguishes_signal_and_exit() {
    assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"], "/").await.unwrap().0, 9);
    assert_eq!(run(&["/bin/true"], "/").await.unwrap().0, 0);
}

#[tokio::test]
async fn a_command_inherits_no_variable_descriptor_terminal_or_signal_action() {
    // A descriptor without close-on-exec, as a service manager passes them.
    let leaked = File::open("/etc/passwd").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 200).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let raw = leaked.into_raw_fd();
    // SAFETY: no test depends on the action of SIGUSR2, which the whole process shares.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    // The shell lists its descriptors without a pipe, which would be one more of them.
    let script = "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; echo $GREETING; ls -C -w 0 /proc/$$/fd; \
                  grep -E 'SigIgn|SigBlk' /proc/$$/status | cut -f2 | tr '\\n' ' '; echo; \
                  umask; cut -d' ' -f6,7 /proc/$$/stat; echo $$";
    let (status, output) = run(&["/bin/sh", "-c", script], "/").await.unwrap();
    // SAFETY: the descriptor is this test's own.
    unsafe { libc::close(raw) };
    assert_eq!(status, 0, "{output}");
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let [names, greeting, descriptors, masks, umask, session, pid] = lines[..] else { panic!("{output}") };
    for name in names.split(' ') {
        let known = ["GREETING", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name) || environment::is_kept(name);
        assert!(known, "{name} is not inherited: {output}");
    }
    assert!(names.contains("PATH"), "{output}");
    assert_eq!(greeting, "hello");
    let descriptors: Vec<&str> = descriptors.split_whitespace().collect();
    assert_eq!(descriptors.join(" "), "0 1 2", "{output}");
    assert_eq!(masks, "0000000000000000 0000000000000000", "{output}");
    assert_eq!(umask, "0022");
    assert_eq!(session, format!("{pid} 0"), "its own session, and no terminal: {output}");
}

/// Has the calling thread's clone3 fail, as a service manager's or a container engine's filter does.
fn refuse_clone3(errno: i32) {
    let (load, equal, answer) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    let step = |code: u32, jt, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf: 1 - jt, k };
    let refused = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let mut filter = [
        libc::sock_filter { jf: 0, ..step(load, 0, 0) },
        libc::sock_filter { jt: 0, jf: 1, ..step(equal, 0, u32::try_from(libc::SYS_clone3).unwrap()) },
        step(answer, 0, refused),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the calls, which concern this thread alone.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let filtered = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(filtered, 0, "{}", io::Error::last_os_error());
    }
}

#[test]
fn a_command_starts_under_a_filter_that_refuses_clone3() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let filtered = std::thread::spawn(move || {
            refuse_clone3(errno);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = "echo $GREETING; ps -o pgid= -p $$ | tr -d ' '; echo $$; exit 3";
            let (status, output) = runtime.block_on(run(&["/bin/sh", "-c", script], "/usr")).unwrap();
            let missing = runtime.block_on(run(&["/nonexistent"], "/")).unwrap_err();
            (status, output, kind(missing), own_state())
        });
        let before = own_state();
        let (status, output, missing, after) = filtered.join().unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!((status, lines[0], lines[1]), (3 << 8, "hello", lines[2]), "{output}");
        assert_eq!(missing, io::ErrorKind::NotFound);
        assert_eq!(after, before);
    }
}

/// The action and mask of SIGPIPE, the current folder and the target of standard input.
fn own_state() -> (usize, i32, PathBuf, PathBuf) {
    // SAFETY: zeros are valid for both, and nothing is changed.
    let (action, blocked) = unsafe {
        let (mut action, mut mask): (libc::sigaction, libc::sigset_t) = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action);
        libc::sigprocmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask);
        (action.sa_sigaction, libc::sigismember(&raw const mask, libc::SIGPIPE))
    };
    let input = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    (action, blocked, std::env::current_dir().unwrap(), input)
}

#[tokio::test]
async fn the_child_does_not_change_the_daemons_state() {
    let before = own_state();
    run(&["/bin/true"], "/usr").await.unwrap();
    run(&["/nonexistent"], "/usr").await.unwrap_err();
    assert_eq!(own_state(), before);
}

#[test]
fn many_commands_start_at_once_while_other_threads_use_the_memory() {
    let starter = |number: usize| {
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for round in 0..20 {
                    let (word, code) = (format!("{number}-{round}"), round % 7);
                    let script = format!("echo {word}; exit {code}");
                    let (status, output) = run(&["/bin/sh", "-c", &script], "/").await.unwrap();
                    assert_eq!((status, output), (code << 8, format!("{word}\n")));
                }
            });
        }
    };
    let starters: Vec<_> = (0..4).map(|number| std::thread::spawn(starter(number))).collect();
    let mut texts = Vec::new();
    while starters.iter().any(|starter| !starter.is_finished()) {
        texts = (0..1000).map(|number: usize| number.to_string()).collect();
    }
    starters.into_iter().for_each(|starter| starter.join().unwrap());
    assert!(texts.iter().enumerate().all(|(at, text)| *text == at.to_string()));
}

#[tokio::test]
async fn a_failed_exec_returns_its_errno() {
    let missing = run(&["/nonexistent"], "/").await.unwrap_err();
    assert_eq!(kind(missing), io::ErrorKind::NotFound);
    let no_folder = run(&["/bin/true"], "/nonexistent").await.unwrap_err();
    assert!(matches!(&no_folder, SpawnError::Directory { directory, .. } if directory == "/nonexistent"));
    assert_eq!(kind(no_folder), io::ErrorKind::NotFound);
    let forbidden = run(&["/etc/passwd"], "/").await.unwrap_err();
    assert_eq!(kind(forbidden), io::ErrorKind::PermissionDenied);
}

/// The value of a line of `/proc/PID/status`.
fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

#[tokio::test]
async fn a_command_has_its_own_umask_and_limits() {
    let limit = |resource, soft, hard| ResourceLimit { resource, soft: Some(soft), hard: Some(hard) };
    let script = "grep Umask /proc/self/status; ulimit -Sn; ulimit -Hn; ulimit -c";
    let rlimits = vec![limit(Resource::Nofile, 100, 200), limit(Resource::Core, 0, 0)];
    let exec = Exec { umask: 0o27, rlimits, ..exec(&["/bin/sh", "-c", script], "/") };
    let (status, output) = run_exec(&exec).await.unwrap();
    assert_eq!((status, output.as_str()), (0, "Umask:\t0027\n100\n200\n0\n"));
    // More descriptors than any process may have (`fs.nr_open`).
    let rlimits = vec![limit(Resource::Core, 0, 0), limit(Resource::Nofile, 1, 1 << 40)];
    let refused = run_exec(&Exec { rlimits, ..exec.clone() }).await.unwrap_err().to_string();
    assert!(refused.starts_with("cannot set its limit nofile: Operation not permitted"), "{refused}");
}

#[tokio::test]
async fn a_command_runs_as_its_user_without_capabilities_and_the_daemon_is_unchanged() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it needs root");
        return;
    }
    // Other tests change the capabilities of threads of this process, which has no core dumps then.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
    let before = fs::read_to_string("/proc/thread-self/status").unwrap();
    let script =
        "cat /proc/self/status; echo Variables: $USER $LOGNAME $HOME; head -c1 /proc/self/environ >/dev/null";
    let user = Some("nobody".to_owned());
    let exec = Exec { user, ..exec(&["/bin/sh", "-c", script], "/") };
    let (status, output) = run_exec(&exec).await.unwrap();
    let nobody = account::user("nobody").unwrap();
    let ids = |id: u32| vec![id.to_string(); 4].join("\t");
    assert_eq!(
        (status, field(&output, "Uid"), field(&output, "Gid")),
        (0, &*ids(nobody.uid), &*ids(nobody.gid))
    );
    assert_eq!(field(&output, "Groups"), nobody.gid.to_string());
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&output, set), "0000000000000000", "{set}");
    }
    let home = nobody.home.to_str().unwrap();
    assert_eq!(field(&output, "Variables"), format!("nobody nobody {home}"));
    // Core dumps of the daemon included: the child's change of its user concerns a memory of its own.
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    let after = fs::read_to_string("/proc/thread-self/status").unwrap();
    for line in ["Uid", "Gid", "Groups", "CapEff", "CapPrm"] {
        assert_eq!(field(&after, line), field(&before, line));
    }

    let group = Some("adm".to_owned());
    let (_, output) = run_exec(&Exec { group, ..exec.clone() }).await.unwrap();
    assert_eq!(field(&output, "Gid"), ids(account::group("adm").unwrap()));
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = run_exec(&Exec { directory: closed.path().to_owned(), ..exec.clone() }).await.unwrap_err();
    assert_eq!(kind(refused), io::ErrorKind::PermissionDenied, "the user may not enter it");
    let gone = run_exec(&Exec { user: Some("no-such-user".to_owned()), ..exec }).await.unwrap_err();
    assert_eq!(gone.to_string(), "this host has no user no-such-user");
}
