//! What units get from the real agent, and what nobody else gets: no part of Rempart is a stand-in here.

use std::path::Path;

use anyhow::Result;

use crate::node::{Node, VALUE, opt_in, talk};

/// Asks the agent as the wrapper does, from outside of any wrapped unit; prints what it says.
const ASK: &str = "import socket
s = socket.socket(socket.AF_UNIX); s.connect('/run/rempart/agent.sock')
s.send(b'{\"v\":1,\"op\":\"release\"}\\n'); print(s.makefile().readline())";
/// The service: proves its password without writing it, and that a child has none.
const SERVICE: &str = "import os, hashlib, subprocess
child = subprocess.run(['sh', '-c', 'echo ${DB_PASSWORD-absent}'], capture_output=True, text=True).stdout.strip()
open('/run/proof', 'w').write(f\"{hashlib.sha256(os.environ['DB_PASSWORD'].encode()).hexdigest()} {child}\")
";

/// All of them; false when one failed.
pub fn all(deb: &Path) -> Result<bool> {
    let service = "[Service]\nType=oneshot\nRemainAfterExit=yes\nDynamicUser=yes\nUser=prover\nRuntimeDirectory=prover\n\
                   ExecStart=/usr/bin/python3 /usr/lib/rempart-test/service.py\n";
    let stranger = "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /usr/lib/rempart-test/ask.py\n";
    let units = [
        ("prover.service".to_owned(), format!("{service}{}", opt_in())),
        ("stranger.service".to_owned(), stranger.to_owned()),
    ];
    let node = Node::boot(deb, &units)?;
    let inside = &node.container;
    inside.root().write("/usr/lib/rempart-test/ask.py", ASK)?;
    inside.root().write(
        "/usr/lib/rempart-test/service.py",
        SERVICE.replace("/run/proof", "/run/prover/proof"),
    )?;
    let mut report = Report(true);

    let (started, said) = talk(inside, &["systemctl", "start", "prover.service"], "")?;
    let proof = inside.output(&["cat", "/run/prover/proof"])?;
    let (_, digest) = talk(inside, &["sha256sum"], VALUE)?;
    let wanted = format!("{} absent", digest.trim_end_matches(['-', ' ']));
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

    let journal = inside.output(&["journalctl", "--boot", "--output=cat"])?;
    report.row("no-secret-in-the-journal", !journal.contains(VALUE), || {
        "the value is in the journal".into()
    });
    let audit = inside.output(&["cat", "/var/lib/rempart/audit.jsonl"])?;
    let kept = audit.contains("\"released\"") && !audit.contains(VALUE);
    report.row("the-audit-log-has-releases-and-no-value", kept, || {
        audit.replace(VALUE, "THE VALUE")
    });
    Ok(report.0)
}

/// A refusal of the agent, and no items.
fn refusal(said: &str) -> bool {
    said.contains("\"refused\"") && !said.contains("\"items\"")
}

/// Prints test lines; false once one failed.
struct Report(bool);

impl Report {
    fn row(&mut self, name: &str, holds: bool, why: impl Fn() -> String) {
        if holds {
            println!("test systemd/agent/{name} ... ok");
        } else {
            self.0 = false;
            println!(
                "test systemd/agent/{name} ... FAILED: {}",
                why().trim().replace('\n', " / ")
            );
        }
    }
}
