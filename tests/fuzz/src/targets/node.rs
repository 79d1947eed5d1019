//! What the agent reads on the node: unit files, its sockets, its configuration and its own audit log after a crash.

use std::io::Read;

use rempart_api::{agent, guard, line};
use rempart_attest::{Blob, Fixed, TeeEvidence, TeeKind, TeeProvider, limits};
use rempart_core::audit::{Chain, What};
use rempart_core::config::{Fragment, Settings};
use rempart_core::reference::Reference;
use rempart_core::sealed;
use rempart_core::unitfile::{MAX_SECRETS, Source, read_opt_in};
use rempart_device::logs::Logs;
use rempart_device::service::{Answer, MAX_REQUEST, Question, Request, SystemdRequest, TeeAnswer};
use rempart_secret::SecretBytes;
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
        name: "evidence-question",
        from: "what rempart-evidence is asked on its socket, by the agent's user",
        max_len: 400,
        memory: Memory::SERDE,
        runs: 20_000,
        run: evidence_question,
        seeds: questions,
    },
    Target {
        name: "evidence-answer",
        from: "what rempart-evidence answers",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 10_000,
        run: evidence_answer,
        seeds: answers,
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
    Target {
        name: "sealed-file",
        from: "files that the node's TPM opens, on a disk that root writes",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 10_000,
        run: sealed_file,
        seeds: sealed_files,
    },
];

const UNITS: [&str; 3] = [
    "[Service]\nExecStart=/usr/bin/billing\n[X-Rempart]\nWrap=yes\nRole=billing\nSecret=DB_PASSWORD=kv/billing#db_password\n",
    "[X-Rempart]\nWrap=yes\nRole=web\nSecret=tls.key=kv/web#key\nDeliver=file\nProtect=enforce\nSecret=\n\0[X-Rempart]\nSecret=A=kv/a#b\n",
    "# note\n[Unit]\nDescription=a \\\n  b\n; note\n[X-Rempart]\nWrap=no\nDeliver=getenv\nMemory=secret\nMemorySize=64M\n",
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

/// However the bytes are cut on their way, the question is the same, and it is sent so that it is read as the same.
fn evidence_question(data: &[u8]) {
    let read = Question::read(data);
    let (head, tail) = data.split_at(data.len() / 2);
    let in_two = Question::read(head.chain(tail));
    match read {
        Ok(question) => {
            assert_eq!(in_two.ok(), Some(question), "cut in two it is another question");
            assert_eq!(
                question.is_none(),
                data.is_empty(),
                "the logs alone are asked for by silence alone"
            );
            if let Some(question) = question {
                assert!(data.len() <= MAX_REQUEST);
                let sent = match question {
                    Question::Tee(request) => request.to_bytes(),
                    Question::Systemd(request) => request.to_bytes(),
                };
                assert_eq!(Question::read(&sent[..]).ok(), Some(Some(question)));
            }
        }
        // A question that was whole in its first half is answered by that.
        Err(_) => assert!(in_two.is_err() || Question::read(head).is_ok()),
    }
}

/// What is taken is within the maxima of Evidence, and is sent so that it is read as the same.
fn evidence_answer(data: &[u8]) {
    if let Ok(answer) = Answer::parse(data) {
        assert!(within(&answer.logs), "a log over its maximum");
        if let TeeAnswer::Report(report) = &answer.tee {
            assert!(
                report.report.0.len() <= limits::TEE_REPORT && report.certificates.0.len() <= limits::TEE_CERTIFICATES
            );
        }
        let mut sent = Vec::new();
        answer.write(&mut sent).expect("to memory");
        assert_eq!(Answer::parse(&sent).ok(), Some(answer));
    }
    if let Ok(logs) = Logs::parse(data) {
        assert!(within(&logs), "a log over its maximum");
        let mut sent = Vec::new();
        logs.write(&mut sent).expect("to memory");
        assert_eq!(Logs::parse(&sent).ok(), Some(logs));
    }
}

fn within(logs: &Logs) -> bool {
    logs.uefi_log.len() <= limits::UEFI_LOG && logs.userspace_log.len() <= limits::USERSPACE_LOG
}

fn questions() -> Vec<Vec<u8>> {
    let question = |vmpl, provider| Request {
        report_data: Fixed([9; 64]),
        vmpl,
        provider,
    };
    let systemd = SystemdRequest {
        systemd_report_nonce: Fixed([9; 32]),
    };
    vec![
        question(None, None).to_bytes(),
        question(Some(3), Some(TeeProvider::ConfigfsTsm)).to_bytes(),
        systemd.to_bytes(),
    ]
}

fn answers() -> Vec<Vec<u8>> {
    let logs = Logs {
        uefi_log: vec![1, 2, 3],
        userspace_log: b"log".to_vec(),
        ..Logs::default()
    };
    let report = TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::ConfigfsTsm,
        report: Blob(vec![4; 64]),
        certificates: Blob(vec![5]),
        runtime_data: Blob::default(),
    };
    let answer = |tee| Answer {
        logs: logs.clone(),
        tee,
    };
    let mut out = vec![vec![]];
    let all = [
        TeeAnswer::Report(report),
        TeeAnswer::Absent("none".into()),
        TeeAnswer::Failed("late".into()),
    ];
    out.extend(all.map(|tee| {
        let mut sent = Vec::new();
        answer(tee).write(&mut sent).expect("to memory");
        sent
    }));
    logs.write(&mut out[0]).expect("to memory");
    out
}

fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()), "{text}");
        let mut parts = reference.place().path().split('/').chain([reference.field()]);
        assert!(parts.all(|part| !part.is_empty() && part != ".."), "{text}");
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

fn sealing_key() -> SecretBytes {
    SecretBytes::new(vec![7; sealed::KEY])
}

/// Whatever header is read is read the same from a file that is sealed with it.
fn sealed_file(data: &[u8]) {
    let _ = sealed::open(data, &sealing_key());
    let Ok(header) = sealed::header(data) else { return };
    let values: Vec<_> = header.entries.iter().map(|_| SecretBytes::new(vec![1, 2])).collect();
    let file = sealed::seal(&header, &values, &sealing_key()).expect("as many values as entries");
    assert_eq!(sealed::header(&file).as_ref(), Ok(&header));
    let opened = sealed::open(&file, &sealing_key()).expect("sealed by this key");
    assert!(opened == values);
}

fn sealed_files() -> Vec<Vec<u8>> {
    let entry = |name: &str| sealed::Entry {
        name: name.into(),
        role: "web".into(),
    };
    let header = |unit: Option<&str>, names: &[&str]| sealed::Header {
        unit: unit.map(str::to_owned),
        entries: names.iter().map(|name| entry(name)).collect(),
        bank: "sha256".into(),
        pcrs: vec![4, 7, 9, 12],
        pcr_digest: "00".repeat(32),
        index: 0x0180_5241,
        counter: 7,
        at: 1000,
        deadline: unit.map(|_| 2000),
        public: "0008".into(),
        private: "0020".into(),
    };
    let of_two = ["kv/web#a", "kv/web?encoding=base64#b"];
    let headers = [
        header(Some("web.service"), &of_two),
        header(None, &of_two[..1]),
        header(None, &[]),
    ];
    let sealed = headers.iter().map(|header| {
        let values: Vec<_> = header.entries.iter().map(|_| SecretBytes::new(vec![3; 5])).collect();
        sealed::seal(header, &values, &sealing_key()).expect("small")
    });
    sealed.collect()
}
