//! What a wrapped unit costs: the start of its program and the agent's memory, beside `bao agent` and systemd's credentials.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use rempart_harness::{Container, OpenBao};

use crate::{
    node::{BAO, Node, SELF, VALUE, opt_in},
    stamp::{self, SECRET},
    table::{Table, percentile},
};

/// Running wrapped units with which the agent's memory is measured.
const RUNNING: [usize; 3] = [0, 50, 200];
/// Units that are started at once.
const TOGETHER: usize = 25;
/// Running units of `bao agent`.
const AGENTS: usize = 5;
/// The agent's memory, at most, in MiB.
const MEMORY: f64 = 20.0;
/// What wrapping may add to a start, at the median, in ms.
const ADDED: f64 = 5.0;
/// Rounds that are not counted: they warm caches and log in at the vault.
const WARM: usize = 5;
/// Where `bao agent` and the credentials find their files.
const FILES: &str = "/usr/lib/rempart-test";

/// A way to a program with its secret.
struct Kind {
    unit: &'static str,
    shown: &'static str,
    secret: bool,
    /// It takes part in each so-manieth round: a start of `bao agent` takes over a second.
    every: usize,
}

const PLAIN: Kind = Kind {
    unit: "plain",
    shown: "plain exec",
    secret: false,
    every: 1,
};
const KINDS: [Kind; 5] = [
    Kind {
        unit: "wrapped",
        shown: "wrapped",
        secret: true,
        every: 1,
    },
    Kind {
        unit: "credential",
        shown: "LoadCredential= of a plain file",
        secret: true,
        every: 1,
    },
    Kind {
        unit: "encrypted",
        shown: "LoadCredentialEncrypted=, host key",
        secret: true,
        every: 1,
    },
    Kind {
        unit: "agent-token",
        shown: "bao agent with a token file",
        secret: true,
        every: 4,
    },
    Kind {
        unit: "agent-approle",
        shown: "bao agent with AppRole",
        secret: true,
        every: 4,
    },
];

/// Boots a node and measures.
pub fn measure(deb: &Path, rounds: usize) -> Result<Table> {
    let node = Node::boot(deb, &units())?;
    let mut table = Table::default();
    prepare(&node)?;
    start_times(&node.container, rounds.max(100), &mut table)?;
    memory(&node.container, &mut table)?;
    table.note("fork is systemd's, main the first statement of the unit's own program, which has its secret by then");
    table.note("the agents log in for each start, as nothing of theirs runs before; rempartd has logged in before");
    Ok(table)
}

/// Type=oneshot with RemainAfterExit, so that systemd keeps the times of the last start.
fn units() -> Vec<(String, String)> {
    let oneshot = |command: &str| {
        format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n")
    };
    let stamped = |name: &str| oneshot(&format!("{SELF} stamp /run/{name}"));
    let agent = |name: &str| oneshot(&format!("{BAO} agent -config={FILES}/{name}.hcl"));
    let mut units = vec![
        ("plain.service".to_owned(), stamped("plain")),
        ("wrapped.service".to_owned(), stamped("wrapped") + &opt_in()),
        (
            "credential.service".to_owned(),
            stamped("credential") + &format!("LoadCredential={SECRET}:{FILES}/value\n"),
        ),
        (
            "encrypted.service".to_owned(),
            stamped("encrypted") + &format!("LoadCredentialEncrypted={SECRET}:{FILES}/value.encrypted\n"),
        ),
        ("agent-token.service".to_owned(), agent("agent-token")),
        ("agent-approle.service".to_owned(), agent("agent-approle")),
    ];
    for number in 1..=RUNNING[2] {
        units.push((
            sleeper(number),
            format!("[Service]\nExecStart=/usr/bin/sleep infinity\n{}", opt_in()),
        ));
    }
    for number in 1..=AGENTS {
        let command = format!("{BAO} agent -config={FILES}/agent-sleep.hcl");
        units.push((
            format!("agent-sleep-{number}.service"),
            format!("[Service]\nExecStart={command}\n"),
        ));
    }
    units
}

fn sleeper(number: usize) -> String {
    format!("sleep-{number}.service")
}

/// The agents' configuration and logins, the credentials' files.
fn prepare(node: &Node) -> Result<()> {
    let (bao, inside) = (&node.bao, &node.container);
    let root = inside.root();
    root.write(&format!("{FILES}/value"), VALUE)?;
    inside.run(&[
        "systemd-creds",
        "encrypt",
        "--with-key=host",
        &format!("--name={SECRET}"),
        &format!("{FILES}/value"),
        &format!("{FILES}/value.encrypted"),
    ])?;
    let admin = |arguments: &[&str]| bao.bao(arguments, None).map(|text| text.trim().to_owned());
    admin(&["auth", "enable", "approle"])?;
    admin(&["write", "auth/approle/role/bench", "token_policies=rempart-bench"])?;
    let id = admin(&["read", "-field=role_id", "auth/approle/role/bench/role-id"])?;
    let secret = admin(&["write", "-f", "-field=secret_id", "auth/approle/role/bench/secret-id"])?;
    let token = admin(&[
        "token",
        "create",
        "-field=token",
        "-policy=rempart-bench",
        "-period=24h",
    ])?;
    for (name, content) in [("role-id", id), ("secret-id", secret), ("token", token)] {
        root.write(&format!("{FILES}/{name}"), content)?;
    }
    let token = format!("method \"token_file\" {{\n  config = {{ token_file_path = \"{FILES}/token\" }}\n}}");
    let approle = format!(
        "method \"approle\" {{\n  config = {{ role_id_file_path = \"{FILES}/role-id\", secret_id_file_path = \"{FILES}/secret-id\", \
         remove_secret_id_file_after_reading = false }}\n}}"
    );
    let stamp = |name: &str| format!("\"{SELF}\", \"stamp\", \"/run/{name}\"");
    for (name, method, command) in [
        ("agent-token", &token, stamp("agent-token")),
        ("agent-approle", &approle, stamp("agent-approle")),
        ("agent-sleep", &approle, "\"/usr/bin/sleep\", \"infinity\"".to_owned()),
    ] {
        root.write(
            &format!("{FILES}/{name}.hcl"),
            agent_configuration(bao, method, &command),
        )?;
    }
    Ok(())
}

/// `bao agent` in its exec mode: it logs in, asks for the secret, and starts the program with it in the environment.
fn agent_configuration(bao: &OpenBao, method: &str, command: &str) -> String {
    format!(
        "vault {{\n  address = \"https://localhost:{}\"\n  ca_cert = \"/etc/rempart/ca.pem\"\n}}\nauto_auth {{\n{method}\n}}\n\
         env_template \"{SECRET}\" {{\n  contents = \"{{{{ with secret \\\"kv/data/bench\\\" }}}}{{{{ .Data.data.value }}}}{{{{ end }}}}\"\n}}\n\
         exec {{\n  command = [{command}]\n  restart_on_secret_changes = \"never\"\n}}\n",
        bao.port()
    )
}

/// The start of one program, in ms.
struct Start {
    /// From systemd's fork to the first statement.
    forked: f64,
    /// The part of it that systemd has no share in: from its exec on.
    handed_over: f64,
}

/// Alternating, so that whatever else the machine does falls on all kinds alike.
fn start_times(container: &Container, rounds: usize, table: &mut Table) -> Result<()> {
    let mut plain = Vec::new();
    let mut seen: [Vec<Start>; KINDS.len()] = Default::default();
    for round in 0..WARM + rounds {
        let bare = start(container, &PLAIN)?;
        if round >= WARM {
            plain.push(bare);
        }
        for (kind, starts) in KINDS.iter().zip(&mut seen) {
            if round % kind.every == 0 {
                let other = start(container, kind)?;
                if round >= WARM {
                    starts.push(other);
                }
            }
        }
    }
    for (kind, starts) in KINDS.iter().zip(&seen) {
        let ours = kind.unit == "wrapped";
        let mut rows = |what: &str, time: fn(&Start) -> f64, aim: Option<f64>| {
            for (name, part, aim) in [("p50", 0.5, aim), ("p99", 0.99, None)] {
                let of = |starts: &[Start]| percentile(&starts.iter().map(time).collect::<Vec<_>>(), part);
                let (bare, value) = (of(&plain), of(starts));
                let shown = format!("{}: {what} to main", kind.shown);
                table.add(&format!("{shown}, {name}"), value, "ms", Some(bare), None);
                table.add(&format!("{shown}, added {name}"), value - bare, "ms", None, aim);
            }
        };
        rows("fork", |start| start.forked, ours.then_some(ADDED));
        // systemd itself brings a credential, before its exec.
        if ours {
            rows("exec", |start| start.handed_over, None);
        }
    }
    Ok(())
}

fn start(container: &Container, kind: &Kind) -> Result<Start> {
    let unit = format!("{}.service", kind.unit);
    container
        .run(&["systemctl", "restart", &unit])
        .with_context(|| container.journal(&unit).unwrap_or_default())?;
    let text = container.run(&["cat", &format!("/run/{}", kind.unit)])?;
    let (now, length) = stamp::parse(&text)?;
    let wanted = if kind.secret { VALUE.len() } else { 0 };
    ensure!(
        length == wanted,
        "{unit} got a secret of {length} bytes, not of {wanted}"
    );
    let since = |property: &str| -> Result<f64> {
        let then: f64 = container.property(&unit, property)?.parse()?;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds since boot are far below 2^52")]
        Ok(now as f64 / 1e6 - then / 1e3)
    };
    Ok(Start {
        forked: since("ExecMainStartTimestampMonotonic")?,
        handed_over: since("ExecMainHandoffTimestampMonotonic")?,
    })
}

/// Memory of the agent with none, some and many units; of `bao agent`, which each unit has its own of; and that Rempart has none of that kind.
fn memory(container: &Container, table: &mut Table) -> Result<()> {
    container.run(&["systemctl", "stop", "wrapped.service"])?;
    let rempartd = || container.property("rempartd.service", "MainPID");
    let mut running = 0;
    let mut processes = Vec::new();
    for many in RUNNING {
        while running < many {
            let next: Vec<String> = (running + 1..=(running + TOGETHER).min(many)).map(sleeper).collect();
            running += next.len();
            let mut command = vec!["systemctl".to_owned(), "start".into()];
            command.extend(next);
            container.run(&command)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        for key in ["Rss", "Pss"] {
            let mib = resident(container, &rempartd()?, key)?;
            table.add(
                &format!("rempartd {key}, {many} units running"),
                mib,
                "MiB",
                None,
                Some(MEMORY),
            );
        }
        processes.push(of_rempart(container)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let more = |count: usize| count as f64 - processes[0] as f64;
    table.add(
        "processes of Rempart that 200 running units add",
        more(processes[2]),
        "",
        None,
        Some(0.0),
    );
    let mut command = vec!["systemctl".to_owned(), "start".into()];
    command.extend((1..=AGENTS).map(|number| format!("agent-sleep-{number}.service")));
    container.run(&command)?;
    std::thread::sleep(Duration::from_secs(5));
    for key in ["Rss", "Pss"] {
        let mut sum = 0.0;
        for number in 1..=AGENTS {
            let pid = container.property(&format!("agent-sleep-{number}.service"), "MainPID")?;
            sum += resident(container, &pid, key)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let each = sum / AGENTS as f64;
        table.add(
            &format!("bao agent {key}, each of {AGENTS} units"),
            each,
            "MiB",
            None,
            None,
        );
    }
    Ok(())
}

/// A sum of /proc/PID/smaps_rollup, in MiB.
pub fn resident(container: &Container, pid: &str, key: &str) -> Result<f64> {
    let text = container.run(&["cat", &format!("/proc/{pid}/smaps_rollup")])?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("no {key} in smaps_rollup"))?
        .parse()?;
    Ok(kib / 1024.0)
}

/// Processes that run a program of Rempart's package.
pub fn of_rempart(container: &Container) -> Result<usize> {
    let all = container.output(&["sh", "-c", "for p in /proc/[0-9]*; do readlink $p/exe; done"])?;
    let ours = |path: &&str| path.starts_with("/usr/lib/rempart/") || path.starts_with("/usr/bin/rempart");
    Ok(all.lines().filter(ours).count())
}
