//! Credentials of systemd's with the real agent and the real systemd, files with modes and owners, and those who ask in a unit's name without being
//! of it. The container's kernel enforces nothing: what is refused here is refused by the agent.

use anyhow::Result;
use rempart_harness::Container;

use crate::{
    check::Report,
    node::{Node, VALUE, sha256, talk},
};

/// Asks without being who it says.
const FORGE: &str = include_str!("forge.py");
/// What a service finds: its credential and its file, told by digests.
const LENT: &str = "import hashlib, os, sys
digest = lambda path: hashlib.sha256(open(path, 'rb').read()).hexdigest()
line = digest(os.environ['CREDENTIALS_DIRECTORY'] + '/db.pw')
if path := os.environ.get('REMPART_FILE_tls_key'):
    known = os.stat(path)
    conf = open(os.environ['CREDENTIALS_DIRECTORY'] + '/app.conf').read() == 'pw=' + open(path).read()
    line += f' {conf} {digest(path)} {known.st_mode & 0o7777:o} {known.st_uid == os.getuid()} {known.st_gid}'
open('/run/lent/' + sys.argv[1], 'w').write(line)
";
const SECRETS: &str =
    "[X-Rempart]\nWrap=yes\nRole=bench\nSecret=db.pw:credential=kv/bench#value\nSecret=tls.key:file=kv/bench#value\n";

/// The units that the tests are about.
pub fn units() -> Vec<(String, String)> {
    let python = |what: &str| format!("/usr/bin/python3 /usr/lib/rempart-test/lent.py {what}");
    let service = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nDynamicUser=yes\nUser=lent\nSupplementaryGroups=adm\nRuntimeDirectory=lent\n\
         ExecStartPre={}\nExecStart={}\n",
        python("before"),
        python("main")
    );
    let owner = |unit: &str| {
        format!(
            "{unit}{SECRETS}FileMode=tls.key=0440\nFileOwner=tls.key=:adm\nTemplate=app.conf:credential=/usr/lib/rempart-test/app.conf.j2\n"
        )
    };
    // Both wait where they can be attacked: before the wrapper asks, and after.
    let held = "[Service]\nType=exec\nNotifyAccess=all\nExecStartPre=/usr/bin/sleep 6\nExecStart=/usr/bin/sleep 600\n";
    [
        ("lent.service", owner(&service)),
        (
            "lent-wrong.service",
            format!("{service}{SECRETS}FileOwner=tls.key=root\n").replace("/run/lent/", "/run/x/"),
        ),
        ("held.service", format!("{held}{SECRETS}")),
        (
            "other.service",
            format!("[Service]\nType=oneshot\nExecStart=/usr/bin/true\n{SECRETS}"),
        ),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into()
}

/// All of them.
pub fn rows(node: &Node, report: &mut Report) -> Result<()> {
    let inside = &node.container;
    inside.root().write("/usr/lib/rempart-test/lent.py", LENT)?;
    inside.root().write("/usr/lib/rempart-test/forge.py", FORGE)?;
    inside
        .root()
        .write("/usr/lib/rempart-test/app.conf.j2", "pw={{ secrets['tls.key'] }}")?;
    given(node, report)?;
    asked_by_others(inside, report)?;
    attacked(inside, report)?;
    Ok(())
}

fn shell(inside: &Container, script: &str) -> Result<String> {
    Ok(talk(inside, &["sh", "-c", script], "")?.1)
}

fn given(node: &Node, report: &mut Report) -> Result<()> {
    let inside = &node.container;
    let digest = sha256(inside, VALUE)?;
    let log =
        || inside.journal("lent.service").unwrap_or_default() + &inside.journal("rempartd.service").unwrap_or_default();
    let (started, said) = talk(inside, &["systemctl", "start", "lent.service"], "")?;
    let before = inside.output(&["cat", "/run/lent/before"])?;
    report.row(
        "a-credential-is-there-before-the-first-command",
        started && before == digest,
        || format!("{said}; «{before}»; {}", log()),
    );
    let group = shell(inside, "getent group adm | cut -d: -f3")?;
    let main = inside.output(&["cat", "/run/lent/main"])?;
    let wanted = format!("{digest} True {digest} 440 True {group}");
    report.row(
        "a-file-has-the-mode-and-group-that-its-unit-says",
        main == wanted,
        || format!("«{main}», wanted «{wanted}»; {}", log()),
    );
    let audit = inside.output(&[
        "grep",
        "-c",
        "\"unit\":\"lent.service\".*kv/bench#value",
        "/var/lib/rempart/audit.jsonl",
    ])?;
    report.row("each-way-is-recorded-once-a-start", audit == "2", || audit.clone());

    let (started, _) = talk(inside, &["systemctl", "start", "lent-wrong.service"], "")?;
    let said = inside.journal("lent-wrong.service")?;
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("rempart-wrap:")).collect();
    let refused = matches!(lines.as_slice(), [line] if line.contains("the file of tls.key cannot belong to root"));
    report.row(
        "a-file-goes-to-no-owner-that-the-unit-is-not",
        !started && refused,
        || said.clone(),
    );

    let noted = shell(inside, "rempart validate lent 2>&1; echo $?")?;
    let found = noted.contains("root can read the credentials of lent.service") && noted.ends_with("\n0");
    report.row("validate-tells-what-a-credential-is-worth", found, || noted.clone());

    let run =
        "rempart run --role bench --secret x:credential=kv/bench#value -- sh -c 'sha256sum <$CREDENTIALS_DIRECTORY/x'";
    let said = shell(inside, run)?;
    report.row("run-gives-a-command-a-credential", said.starts_with(&digest), || {
        said.clone()
    });

    inside.run(&["systemctl", "stop", "lent.service"])?;
    node.bao.seal()?;
    let (started, _) = talk(inside, &["systemctl", "start", "lent.service"], "")?;
    let status = inside.property("lent.service", "Result")?;
    let ran = shell(inside, "test -e /run/lent/before && echo ran")?;
    let why = inside
        .journal("rempartd.service")?
        .lines()
        .any(|line| line.contains("no secrets for lent.service") && line.contains("sealed"));
    report.row(
        "a-sealed-vault-fails-the-start-before-any-command-runs",
        !started && status == "exit-code" && ran.is_empty() && why,
        || format!("started {started}, {status}, «{ran}», told {why}; {}", log()),
    );
    node.bao.unseal()?;
    inside.output(&["systemctl", "reset-failed", "lent.service"])?;
    let (started, said) = talk(inside, &["systemctl", "start", "lent.service"], "")?;
    report.row("an-unsealed-vault-gives-credentials-again", started, || {
        format!("{said}; {}", log())
    });
    Ok(())
}

/// Each asks in the name of held.service at both sockets; what it is matters, not what it says.
fn asked_by_others(inside: &Container, report: &mut Report) -> Result<()> {
    const ASK: &str = "python3 /usr/lib/rempart-test/forge.py";
    let wrap = "$(readlink -f /usr/bin/python3):/usr/lib/rempart/rempart-wrap";
    let user = "useradd --create-home forger && systemctl start user@$(id -u forger).service && \
                as='setpriv --reuid forger --regid forger --init-groups env XDG_RUNTIME_DIR=/run/user/'$(id -u forger)";
    for (name, script, wanted) in [
        (
            "root-with-a-forged-address",
            format!("{ASK} outside"),
            "refused refused",
        ),
        (
            "another-user-with-a-forged-address",
            format!("{ASK} nobody"),
            "no-permission refused",
        ),
        (
            "the-wrappers-path-in-another-mount-and-process-namespace",
            "unshare --mount --pid --fork --mount-proc sh -c 'mount --bind $(readlink -f /usr/bin/python3) /usr/lib/rempart/rempart-wrap && \
                 exec /usr/lib/rempart/rempart-wrap /usr/lib/rempart-test/forge.py outside'"
            .to_owned(),
            "refused refused",
        ),
        (
            "a-transient-unit-that-mounts-over-the-wrapper",
            format!(
                "systemd-run --quiet --wait --pipe -p BindReadOnlyPaths={wrap} /usr/lib/rempart/rempart-wrap /usr/lib/rempart-test/forge.py outside"
            ),
            "refused refused",
        ),
        (
            "a-transient-unit-that-names-another",
            format!("systemd-run --quiet --wait --pipe {ASK} outside"),
            "refused refused",
        ),
        (
            "a-users-own-unit-of-the-same-name",
            format!(
                "{user}; $as systemd-run --user --quiet --unit=held.service -p StandardOutput=file:/home/forger/said {ASK} outside; \
                 for _ in $(seq 50); do test -s /home/forger/said && break; sleep 0.2; done; cat /home/forger/said"
            ),
            "no-permission refused",
        ),
    ] {
        let said = shell(inside, &script)?;
        report.row(
            &format!("peer/{name}"),
            said.lines().any(|line| line.starts_with(wanted)) && !said.contains("GIVEN"),
            || said.clone(),
        );
    }
    // The same ExecStart= and LoadCredential= as a unit that opted in.
    let twin = shell(
        inside,
        "systemd-run --quiet --wait --unit=twin -p LoadCredential=db.pw:/run/rempart/credentials.sock /usr/lib/rempart/rempart-wrap -- /usr/bin/touch /run/twin-ran; \
         echo $? $(systemctl show -P ExecMainStatus twin); test -e /run/twin-ran && echo RAN; systemctl reset-failed twin",
    )?;
    let told = inside.journal("rempartd.service")?;
    let refused = twin.contains("243") && !twin.contains("RAN") && told.contains("twin.service has not opted in");
    report.row("peer/a-transient-unit-with-the-same-commands", refused, || {
        format!("{twin}; {told}")
    });
    Ok(())
}

/// One row for what so many lines of forge.py have to say.
fn forged(report: &mut Report, name: &str, said: &str, lines: usize) {
    let whole = said.lines().filter(|line| line.starts_with("refused refused")).count() == lines;
    report.row(&format!("peer/{name}"), whole && !said.contains("GIVEN"), || {
        said.to_owned()
    });
}

/// Root enters the unit while it starts and while it runs.
fn attacked(inside: &Container, report: &mut Report) -> Result<()> {
    let forge = |what: &str| shell(inside, &format!("python3 /usr/lib/rempart-test/forge.py {what}"));
    inside.run(&["systemctl", "start", "--no-block", "held.service"])?;
    inside.wait_until(std::time::Duration::from_secs(20), "held starts", || {
        Ok(inside.property("held.service", "SubState")? == "start-pre")
    })?;
    forged(
        report,
        "moved-into-a-unit-that-starts",
        &forge("moved held.service")?,
        1,
    );
    inside.wait_until(std::time::Duration::from_secs(60), "held runs", || {
        Ok(inside.property("held.service", "SubState")? == "running")
    })?;
    // What docs/secrets.md says of this way.
    let seen = shell(inside, "cat /run/credentials/held.service/db.pw")?;
    report.row(
        "root-can-read-a-credential-where-nothing-is-enforced",
        seen == VALUE,
        || seen.clone(),
    );
    forged(report, "moved-into-a-unit-that-runs", &forge("moved held.service")?, 1);
    let main = inside.property("held.service", "MainPID")?;
    forged(
        report,
        "made-the-main-process-by-sd-notify",
        &forge("main held.service")?,
        2,
    );
    forged(
        report,
        "born-again-with-the-main-process-number",
        &forge(&format!("reborn held.service {main}"))?,
        2,
    );
    let ended = inside.property("lent.service", "ExecMainPID")?;
    forged(
        report,
        "born-with-the-number-of-a-process-that-has-ended",
        &forge(&format!("reborn lent.service {ended}"))?,
        2,
    );

    inside.output(&["systemctl", "kill", "--signal=KILL", "held.service"])?;
    inside.output(&["systemctl", "stop", "held.service", "lent.service"])?;
    inside.output(&["systemctl", "reset-failed"])?;
    let (started, said) = talk(inside, &["systemctl", "start", "lent.service", "other.service"], "")?;
    report.row("peer/the-units-themselves-are-served-all-the-same", started, || {
        said.clone()
    });
    Ok(())
}
