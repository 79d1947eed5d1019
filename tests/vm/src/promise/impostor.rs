//! A process that asks the agent without being the unit gets one line and no descriptor.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

/// Asks the agent as rempart-wrap does and prints the answer; any descriptor that comes is shouted about.
const ASK: &str = r#"
import socket,json,sys,os
if len(sys.argv)>1: open('/sys/fs/cgroup/system.slice/'+sys.argv[1]+'/cgroup.procs','w').write(str(os.getpid()))
s=socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect('/run/rempart/agent.sock')
s.sendall(b'{"op":"release","v":1}\n')
data,fds,_,_=socket.recv_fds(s,65536,4)
print('DESCRIPTOR' if fds else 'none', data.decode(errors='replace'))
"#;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    for (name, unit) in [
        ("impostor::root_shell", ""),
        ("impostor::moved_into_the_unit", "demo-db.service"),
    ] {
        let answer = node.exec_stdin(
            &["/usr/bin/python3", "-", unit][..if unit.is_empty() { 2 } else { 3 }],
            ASK,
        )?;
        let text = answer.stdout.trim();
        let line = text
            .split_once("\"refused\":\"")
            .and_then(|(_, rest)| rest.rsplit_once("\"}"))
            .map(|(line, _)| line);
        let (seen, said) = match line {
            Some(line) if text.starts_with("none") && line.len() > 20 => (Outcome::Denied, line.to_owned()),
            // A guard that already refuses the move is as good: the process never was in the unit.
            None if answer.stderr.contains("PermissionError") && answer.stderr.contains("cgroup.procs") => (
                Outcome::Denied,
                "moving a process into the unit: permission denied".to_owned(),
            ),
            _ if text.starts_with("DESCRIPTOR") => (Outcome::Works, "the agent handed out a descriptor".to_owned()),
            _ => (Outcome::Broken, format!("{text} {}", answer.stderr)),
        };
        report.row(name, Outcome::Denied, seen, said);
    }
    Ok(())
}
