//! The tools, each as its own documentation sets it up.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    kubelet::KubeletRules,
    stage::Stage,
    trouble::{TROUBLES, Tool, Trouble},
};
use crate::{
    bench::peers::monit::{Monit, PROGRAM},
    daemon::Daemon,
    operator::Home,
};

/// Monit's cycle, as in the examples of its manual, s.
const CYCLE: u32 = 30;

/// All of them, running. They end with what they started when this is dropped.
pub struct Tools {
    home: Home,
    _daemon: Daemon,
    monit: Monit,
    monit_settings: PathBuf,
    kubelet: Arc<KubeletRules>,
}

impl Tools {
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        let home = Home::new();
        let daemon = Daemon::start(&home.config(&hostprobe_services(stage)), &[]);
        daemon.ready();
        let control = home.path("monit.sock");
        let settings = format!("set httpd unixsocket {} allow root:monit\n", control.display());
        let checks = settings + &monit_checks(stage);
        let monit = Monit::start(CYCLE, &checks)?;
        // Its command line takes a configuration that names the same socket.
        let monit_settings = monit.configuration();
        let kubelet = Arc::new(KubeletRules::start(stage));
        Ok(Self { home, _daemon: daemon, monit, monit_settings, kubelet })
    }

    /// An operator deploys a service again, with the tool's own command.
    pub(super) fn deploy(&self, stage: &Stage, trouble: &Trouble, tool: Tool) -> Result<()> {
        let name = trouble.name;
        match tool {
            Tool::Hostprobe => {
                let output = self.home.order(&["restart", name]);
                ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            Tool::Monit => {
                let mut command = Command::new(PROGRAM);
                command.arg("-c").arg(&self.monit_settings).args(["restart", name]).stdin(Stdio::null());
                let output = command.output().context("Monit cannot be run")?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{said}; {}", self.monit.log().join("; "));
            }
            Tool::KubeletRules => self.kubelet.deploy(stage, name),
        }
        Ok(())
    }
}

fn hostprobe_services(stage: &Stage) -> String {
    let mut text = stage.remote_services();
    for trouble in TROUBLES {
        let (port, command) = (stage.port(trouble, Tool::Hostprobe), stage.command(trouble, Tool::Hostprobe));
        let output = stage.folder().join(format!("{}.output", trouble.name)).display().to_string();
        text += &format!(
            "[[service]]\nname = {:?}\nexec = {command:?}\noutput = {output:?}\n[[service.probe]]\n\
             http = \"http://127.0.0.1:{port}/health\"\n[service.restart]\nbudget = \"1000 per 1h\"\n",
            trouble.name
        );
    }
    text + "[restart]\nbudget = \"1000 per 1h\"\n"
}

fn monit_checks(stage: &Stage) -> String {
    let mut text = String::new();
    for trouble in TROUBLES {
        let (port, command) =
            (stage.port(trouble, Tool::Monit), stage.command(trouble, Tool::Monit).join(" "));
        let pidfile = stage.folder().join(format!("{}.pid", trouble.name));
        let pidfile = pidfile.display();
        text += &format!(
            "check process {} with pidfile {pidfile}\n  \
             start program = \"/bin/sh -c '{command} >/dev/null 2>&1 & echo $! >{pidfile}'\"\n  \
             stop program = \"/bin/sh -c 'kill -KILL `cat {pidfile}`'\"\n  \
             if failed port {port} protocol http request \"/health\" then restart\n",
            trouble.name
        );
    }
    text
}
