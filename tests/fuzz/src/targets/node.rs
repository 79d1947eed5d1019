//! What the agent reads on the node: unit files, its sockets, its configuration and its own audit log after a crash.

use rempart_api::{agent, guard, line};
use rempart_core::audit::{Chain, What};
use rempart_core::config::{Fragment, Settings};
use rempart_core::reference::Reference;
use rempart_core::unitfile::{MAX_SECRETS, Source, read_opt_in};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "unit-file",
        from: "units and drop-ins, by whoever may write them",
        max_len: 4096,
        memory: Memory::OURS,
        runs: 20_000,
        run: unit_file,
        seeds: || UNITS.iter().map(|unit| unit.as_bytes().to_vec()).collect(),
    },
    Target {
        name: "reference",
        from: "a secret's name in a unit",
        max_len: 600,
        memory: Memory::OURS,
        runs: 20_000,
        run: reference,
        seeds: || vec![b"kv/team/billing#db_password".to_vec()],
    },
    Target {
        name: "agent-socket",
        from: "lines on the agent's and the guard's sockets",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: socket,
        seeds: lines,
    },
    Target {
        name: "agent-config",
        from: "the operator's configuration",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 10_000,
        run: config,
        seeds: || vec![CONFIG.as_bytes().to_vec()],
    },
    Target {
        name: "audit-log",
        from: "the audit log on disk, after a crash or a thief",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: audit,
        seeds: audit_logs,
    },
];

const UNITS: [&str; 3] = [
    "[Service]\nExecStart=/usr/bin/billing\n[X-Rempart]\nWrap=yes\nRole=billing\nSecret=DB_PASSWORD=kv/billing#db_password\n",
    "[X-Rempart]\nWrap=yes\nRole=web\nSecret=tls.key=kv/web#key\nDeliver=file\nProtect=enforce\nSecret=\n\0[X-Rempart]\nSecret=A=kv/a#b\n",
    "# note\n[Unit]\nDescription=a \\\n  b\n; note\n[X-Rempart]\nWrap=no\nDeliver=getenv\n",
];
const CONFIG: &str = "[node]\nname = \"demo-1\"\n[verifier]\nurl = \"https://verifier.example:8443\"\nca = \"/etc/rempart/ca.pem\"\n\
[tpm]\ntcti = \"device:/dev/tpmrm0\"\n[vault]\nkind = \"openbao\"\nurl = \"https://bao.example:8200\"\nca = \"/etc/rempart/ca.pem\"\n\
[guard]\ndegraded = \"allow\"\n";

/// Files of one unit, separated by NUL.
fn unit_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files: Vec<Source<'_>> = text.split('\0').map(|text| Source { path: "unit", text }).collect();
    if let Ok(Some(opt_in)) = read_opt_in(&files) {
        assert!(opt_in.secrets.len() <= MAX_SECRETS, "{} secrets", opt_in.secrets.len());
        assert!(
            opt_in.secrets.is_empty() || opt_in.role.is_some(),
            "secrets without a role: {opt_in:?}"
        );
    }
}

fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
        let parts = reference
            .path()
            .split('/')
            .chain([reference.mount(), reference.field()]);
        assert!(parts.into_iter().all(|part| !part.is_empty() && part != ".."), "{text}");
    }
}

fn socket(data: &[u8]) {
    line_of::<agent::Request>(data);
    line_of::<agent::Reply>(data);
    line_of::<guard::Request>(data);
    line_of::<guard::Outcome>(data);
    line_of::<guard::Event>(data);
}

fn line_of<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(message) = line::decode::<T>(data) {
        let again = line::encode(&message).and_then(|line| line::decode::<T>(&line));
        assert_eq!(again.expect("what was written is read"), message);
    }
}

fn lines() -> Vec<Vec<u8>> {
    [
        r#"{"op":"release","v":1}"#,
        r#"{"v":1,"refused":"node locked"}"#,
        r#"{"v":1,"area_len":7,"items":[{"name":"A","deliver":"getenv","offset":0,"len":7},{"name":"b","deliver":"file","offset":7,"len":0,"path":"/run/x"}]}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(merged) = text
        .split('\0')
        .map(|text| Fragment::parse("rempart.toml", text))
        .try_fold(Fragment::default(), |before, next| {
            next.map(|next| before.overridden_by(next))
        })
    else {
        return;
    };
    let _judged = Settings::judge(merged);
}

/// A log that replays can be continued, and then replays again to the same head.
fn audit(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(mut chain) = Chain::replay(text.lines()) else {
        return;
    };
    let next = chain.append(1, What::Started { version: "1".into() });
    let again = Chain::replay(text.lines().chain([next.as_str()]));
    assert_eq!(again.as_ref().map(Chain::head), Ok(chain.head()));
}

fn audit_logs() -> Vec<Vec<u8>> {
    let mut chain = Chain::default();
    let started = chain.append(
        1,
        What::Started {
            version: "0.1.0".into(),
        },
    );
    let refused = chain.append(
        2,
        What::Refused {
            who: "pid 7".into(),
            reason: "no unit".into(),
        },
    );
    vec![
        started.clone().into_bytes(),
        format!("{started}\n{refused}\n").into_bytes(),
    ]
}
