//! What units get from the real agent, and what nobody else gets: no part of Rempart is a stand-in here.

use std::{path::Path, time::Duration};

use anyhow::Result;

use rempart_harness::Container;

use crate::{
    credential,
    node::{Node, VALUE, opt_in, sha256, talk},
    programs::Programs,
    stamp::SECRET,
};

/// Asks the agent as the wrapper does, from outside of any wrapped unit; prints what it says.
const ASK: &str = "import socket
s = socket.socket(socket.AF_UNIX); s.connect('/run/rempart/agent.sock')
s.send(b'{\"v\":1,\"op\":\"release\"}\\n'); print(s.makefile().readline())";
/// The service: proves its password without writing it, and that a child has none.
const SERVICE: &str = "import os, hashlib, subprocess
child = subprocess.run(['sh', '-c', 'echo ${DB_PASSWORD-absent}'], capture_output=True, text=True).stdout.strip()
open('/run/proof', 'w').write(f\"{hashlib.sha256(os.environ['DB_PASSWORD'].encode()).hexdigest()} {child}\")
";

/// A service that reads its password again when it is told to, and says so.
const ROTOR: &str = "[Service]\nType=exec\nDynamicUser=yes\nRuntimeDirectory=rotor\nExecStart=/usr/bin/python3 /usr/lib/rempart-test/rotor.py\n\
                     ExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n[X-Rempart]\nWrap=yes\nRole=bench\nSecret=pw:file=kv/bench#value\nOnRotate=reload\n";
const READ_AGAIN: &str = "import hashlib, os, signal
def read(*_):
    with open('/run/rempart/units/rotor.service/pw', 'rb') as file: digest = hashlib.sha256(file.read()).hexdigest()
    with open('/run/rotor/new', 'w') as file: file.write(f'{digest} {os.getpid()}')
    os.rename('/run/rotor/new', '/run/rotor/proof')
signal.signal(signal.SIGHUP, read)
read()
while True: signal.pause()
";

/// A service for `rempart run`.
const TOLD: &str = "[Service]\nType=oneshot\nStandardInput=file:/run/rempart-run/%n/0\nStandardOutput=file:/run/rempart-run/%n/1\n\
                    StandardError=file:/run/rempart-run/%n/2\nExecStart=/usr/bin/python3 /usr/lib/rempart-test/told.py\n";
/// What it does: a digest over the secret and its standard input, and a status of its own.
const DIGEST: &str = "import hashlib, os, sys
print(hashlib.sha256(os.environ['DB_PASSWORD'].encode() + sys.stdin.buffer.read()).hexdigest())
sys.exit(7)
";

/// All of them; false when one failed.
pub fn all(readers: &Path, deb: &Path) -> Result<bool> {
    let service = "[Service]\nType=oneshot\nRemainAfterExit=yes\nDynamicUser=yes\nUser=prover\nRuntimeDirectory=prover\n\
                   ExecStart=/usr/bin/python3 /usr/lib/rempart-test/service.py\n";
    let stranger = "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /usr/lib/rempart-test/ask.py\n";
    let mut units = vec![
        ("prover.service".to_owned(), format!("{service}{}", opt_in())),
        ("stranger.service".to_owned(), stranger.to_owned()),
        ("rotor.service".to_owned(), ROTOR.to_owned()),
        ("told.service".to_owned(), format!("{TOLD}{}", opt_in())),
    ];
    let programs = Programs::find(readers)?;
    units.extend(credential::units());
    units.extend(programs.units());
    let node = Node::boot_beside_host(deb, &units)?;
    let inside = &node.container;
    inside.root().write("/usr/lib/rempart-test/ask.py", ASK)?;
    inside.root().write(
        "/usr/lib/rempart-test/service.py",
        SERVICE.replace("/run/proof", "/run/prover/proof"),
    )?;
    inside.root().write("/usr/lib/rempart-test/told.py", DIGEST)?;
    inside.root().write("/usr/lib/rempart-test/rotor.py", READ_AGAIN)?;
    let mut report = Report::of("agent");

    let (started, said) = talk(inside, &["systemctl", "start", "prover.service"], "")?;
    let proof = inside.output(&["cat", "/run/prover/proof"])?;
    let wanted = format!("{} absent", sha256(inside, VALUE)?);
    let log = || inside.journal("prover.service").unwrap_or_default();
    report.row(
        "a-unit-gets-its-password-from-openbao",
        started && proof == wanted,
        || format!("{said}; proof «{proof}», wanted «{wanted}»; {}", log()),
    );

    let (_, said) = talk(inside, &["python3", "-"], ASK)?;
    report.row("a-process-outside-is-refused", refusal(&said), || said.clone());
    inside.output(&["systemctl", "start", "stranger.service"])?;
    let said = inside.journal("stranger.service")?;
    report.row(
        "a-unit-that-has-not-opted-in-is-refused",
        said.lines().any(refusal),
        || said.clone(),
    );

    inside.run(&["systemctl", "stop", "prover.service"])?;
    node.bao.seal()?;
    let before = log().lines().count();
    let (started, _) = talk(inside, &["systemctl", "start", "prover.service"], "")?;
    let said = log();
    let lines: Vec<&str> = said
        .lines()
        .skip(before)
        .filter(|line| line.starts_with("rempart-wrap:"))
        .collect();
    let refused = matches!(lines.as_slice(), [line] if line.contains("sealed"));
    report.row("a-sealed-vault-is-one-clear-line", !started && refused, || said.clone());
    node.bao.unseal()?;
    inside.output(&["systemctl", "reset-failed", "prover.service"])?;
    let (started, said) = talk(inside, &["systemctl", "start", "prover.service"], "")?;
    report.row("an-unsealed-vault-serves-again", started, || {
        format!("{said}; {}", log())
    });

    rotation(&node, &mut report)?;
    operators_commands(inside, &mut report)?;
    credential::rows(&node, &mut report)?;
    programs.rows(&node, &mut report)?;
    let journal = inside.output(&["journalctl", "--boot", "--output=cat"])?;
    report.row("no-secret-in-the-journal", !journal.contains(VALUE), || {
        "the value is in the journal".into()
    });
    let audit = inside.output(&["cat", "/var/lib/rempart/audit.jsonl"])?;
    let kept = audit.contains("\"released\"") && !audit.contains(VALUE);
    report.row("the-audit-log-has-releases-and-no-value", kept, || {
        audit.replace(VALUE, "THE VALUE")
    });
    Ok(report.holds())
}

/// New values in the files of a service that goes on running.
fn rotation(node: &Node, report: &mut Report) -> Result<()> {
    let inside = &node.container;
    let digest = |text: &str| sha256(inside, text);
    let proof = || inside.output(&["cat", "/run/rotor/proof"]);
    let told = |digest: &str| {
        let told = || Ok(proof()?.starts_with(digest));
        inside.wait_until(Duration::from_secs(15), "told", told).is_ok()
    };
    let log = || inside.journal("rotor.service").unwrap_or_default();
    inside.output(&["systemctl", "start", "rotor.service"])?;
    let first = told(&digest(VALUE)?);
    let started = proof()?;
    // Longer than the one before, and then shorter again.
    let next = "another value, which is somewhat longer than the one before";
    node.bao.put_secret("bench", &[("value", next)])?;
    let (asked, said) = talk(inside, &["rempart", "rotate", "rotor"], "")?;
    let rotated = asked && told(&digest(next)?);
    let same_process = started.split(' ').nth(1) == proof()?.split(' ').nth(1);
    report.row(
        "a-service-that-reloads-gets-new-secrets-while-it-runs",
        first && rotated && same_process,
        || format!("{said}; {started} then {:?}; {}", proof(), log()),
    );
    node.bao.put_secret("bench", &[("value", VALUE)])?;
    let (asked, said) = talk(inside, &["rempart", "rotate", "--all"], "")?;
    report.row("rotate-all-tells-every-unit", asked && told(&digest(VALUE)?), || {
        format!("{said}; {:?}; {}", proof(), log())
    });
    let (asked, said) = talk(inside, &["rempart", "rotate", "stranger"], "")?;
    report.row(
        "rotate-tells-of-a-unit-that-has-none",
        !asked && said.contains("has got no secrets"),
        || said.clone(),
    );
    Ok(())
}

/// What `rempart run` and `rempart validate` get from the agent.
fn operators_commands(inside: &Container, report: &mut Report) -> Result<()> {
    let shell = |script: &str| talk(inside, &["sh", "-c", script], "");
    let digest = sha256(inside, &format!("{VALUE} more"))?;
    for name in ["run-gives-a-service-its-secret", "run-gives-it-again"] {
        let (_, said) = shell("printf ' more' | rempart run told; echo $?")?;
        report.row(name, said == format!("{digest}\n7"), || {
            format!("{said}; wanted {digest} and 7")
        });
    }
    let command = |role: &str| {
        let run = format!("rempart run --role {role} --secret {SECRET}=kv/bench#value --");
        shell(&format!(
            "printf ' more' | {run} python3 /usr/lib/rempart-test/told.py; echo $?"
        ))
    };
    let (_, said) = command("bench")?;
    report.row(
        "run-gives-a-command-a-role-that-the-owner-named",
        said == format!("{digest}\n7"),
        || said.clone(),
    );
    let (_, said) = command("other")?;
    let refused = said.starts_with("77\n") && said.contains("[run] roles") && !said.contains(&digest);
    report.row("run-gives-a-command-no-other-role", refused, || said.clone());

    // The same role in a unit that is not of run's making: its name says so, and that is all root can choose.
    let new = format!(
        "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /usr/lib/rempart-test/told.py\n{}",
        opt_in()
    );
    inside.root().write("/etc/systemd/system/new.service", new)?;
    let wrong = format!(
        "[Service]\nExecStart=/bin/true\n[X-Rempart]\nWrap=yes\nRole=bench\nSecret={SECRET}=kv/bench#nothing\nSecret=B=kv/nowhere#x\n"
    );
    inside
        .root()
        .write("/etc/systemd/system/wrong.service", wrong.as_str())?;
    inside.root().write(
        "/etc/systemd/system/denied.service",
        wrong.replace("Role=bench", "Role=other"),
    )?;
    inside.output(&["systemctl", "daemon-reload"])?;
    let (started, _) = talk(inside, &["systemctl", "start", "new.service"], "")?;
    let said = inside.journal("new.service")?;
    report.row(
        "a-new-unit-gets-nothing",
        !started && said.contains("was not there"),
        || said.clone(),
    );

    let (_, said) = shell("rempart validate new; echo $?")?;
    let found =
        said.starts_with("new.service: was not there, opted in,") && said.contains("reboot") && said.ends_with("\n78");
    report.row("validate-tells-what-needs-a-reboot", found, || said.clone());

    let (_, said) = shell("rempart validate prover told; echo $?")?;
    report.row("validate-asks-the-vault-and-is-content", said == "0", || said.clone());
    let (_, said) = shell("rempart validate wrong; echo $?")?;
    let lines: Vec<&str> = said.lines().collect();
    let found = matches!(lines[..], [_, a, b, "78"] if a.contains("wrong.service:6: ") && a.contains("kv/bench#nothing") && b.contains("wrong.service:7: "));
    report.row("validate-finds-secrets-that-do-not-exist", found, || said.clone());
    let (_, said) = shell("rempart validate denied; echo $?")?;
    let found = said.contains("does not grant this node the role other") && said.ends_with("\n78");
    report.row("validate-finds-roles-that-are-denied", found, || said.clone());
    Ok(())
}

/// A refusal of the agent, and no items.
fn refusal(said: &str) -> bool {
    said.contains("\"refused\"") && !said.contains("\"items\"")
}

/// Prints test lines.
pub struct Report {
    part: &'static str,
    holds: bool,
}

impl Report {
    /// Of one part of the group.
    pub fn of(part: &'static str) -> Self {
        Self { part, holds: true }
    }

    /// One test.
    pub fn row(&mut self, name: &str, holds: bool, why: impl Fn() -> String) {
        let part = self.part;
        if holds {
            println!("test systemd/{part}/{name} ... ok");
        } else {
            self.holds = false;
            println!(
                "test systemd/{part}/{name} ... FAILED: {}",
                why().trim().replace('\n', " / ")
            );
        }
    }

    /// False once one failed.
    pub fn holds(&self) -> bool {
        self.holds
    }
}
