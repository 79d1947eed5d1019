//! Every key of a unit file and of the agent's configuration that a page names is known to the agent's own parsers.

use rempart_core::{
    config::{Fragment, Settings},
    unitfile::{Fault, Source, read_opt_in},
};

use crate::{none, pages};

/// Keys of systemd's, variables and placeholders that pages name with a `=`; another one that is not ours is told.
const OTHERS: &[&str] = &[
    "After",
    "AssertPathExists",
    "Description",
    "DynamicUser",
    "Environment",
    "EnvironmentFile",
    "ExecReload",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "ExecStop",
    "Group",
    "LimitMEMLOCK",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "MAINPID",
    "MemoryDenyWriteExecute",
    "MemoryMax",
    "NAME",
    "NoNewPrivileges",
    "OnCalendar",
    "PAMName",
    "PYTHONMALLOC",
    "ProtectSystem",
    "RefreshOnReload",
    "RemainAfterExit",
    "Requires",
    "Restart",
    "RootDirectory",
    "RootImage",
    "SetCredential",
    "StateDirectory",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "SupplementaryGroups",
    "SystemCallFilter",
    "Type",
    "UnsetEnvironment",
    "User",
    "WantedBy",
];

/// Fields of the Evidence and of `rempart status --json`, which pages write with a dot as they do the configuration's.
const FIELDS: &[&str] = &[
    "guard.missing_vectors",
    "tpm.ak_certificate",
    "tpm.ima_log",
    "tpm.os_release",
    "tpm.pcr_signatures",
    "tpm.pcrs",
    "tpm.quote",
    "tpm.signature",
    "tpm.tls_key",
    "tpm.uefi_log",
    "tpm.userspace_log",
];

/// Whether `[X-Rempart]` has this key.
fn is_ours(key: &str) -> bool {
    let text = format!("[X-Rempart]\n{key}=\n");
    let sources = [Source {
        path: "a page",
        text: &text,
    }];
    !matches!(read_opt_in(&sources), Err(error) if matches!(error.fault, Fault::UnknownKey(_)))
}

/// The key at the head of `text`, where there is one.
fn key(text: &str) -> Option<&str> {
    let (key, _) = text.split_once('=')?;
    let whole =
        key.starts_with(|c: char| c.is_ascii_uppercase()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    whole.then_some(key)
}

#[test]
fn every_unit_key_that_a_page_names_exists() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for code in &page.words {
            let Some(key) = key(&code.text) else { continue };
            seen += 1;
            if !is_ours(key) && !OTHERS.contains(&key) {
                wrong.push(format!("{}: nobody has the key {key}=", page.at(code.line)));
            }
        }
    }
    assert!(seen > 80, "only {seen} keys were found");
    none(wrong);
}

#[test]
fn a_section_in_a_page_is_read_as_the_agent_reads_it() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.text.contains("[X-Rempart]")) {
            // In a shell's block it stands between two lines of its own.
            let from = block.text.find("[X-Rempart]").unwrap_or_default();
            let text = block.text[from..].split("\nEOF").next().unwrap_or_default();
            // A part of a section, to show one key, is made whole.
            let whole = text.contains("Wrap=");
            let text = match whole {
                true => format!("{text}\n"),
                false => text.replacen("[X-Rempart]", "[X-Rempart]\nWrap=yes\nRole=page", 1),
            };
            seen += 1;
            let sources = [Source {
                path: "the section",
                text: &text,
            }];
            match read_opt_in(&sources) {
                Ok(Some(_)) => {}
                Ok(None) => wrong.push(format!("{}: it opts nothing in", page.at(block.line))),
                Err(error) => wrong.push(format!("{}: {error}", page.at(block.line))),
            }
        }
    }
    assert!(seen > 10, "only {seen} sections were found");
    none(wrong);
}

/// Keys of the configuration as pages name them: `[section] key`, with or without a value, and `section.key`.
fn configured(text: &str) -> Option<(String, String)> {
    const SECTIONS: [&str; 9] = [
        "node", "verifier", "tpm", "tee", "vault", "guard", "memory", "run", "attest",
    ];
    let (section, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once("] ")?,
        None => text.split_once('.')?,
    };
    let key: String = rest
        .chars()
        .take_while(|c| c.is_ascii_lowercase() || *c == '_')
        .collect();
    let rest = rest[key.len()..].trim_start();
    let whole = !key.is_empty() && (rest.is_empty() || rest.starts_with('='));
    (whole && SECTIONS.contains(&section)).then(|| (section.to_owned(), key))
}

/// Whether the agent's configuration has it. A value that no key takes tells a wrong type from an unknown key.
fn is_configured(section: &str, key: &str) -> bool {
    let text = format!("[{section}]\n{key} = 1979-05-27\n");
    let error = Fragment::parse("a page", &text)
        .expect_err("no key is a date")
        .to_string();
    !error.contains("unknown field")
}

#[test]
fn every_configuration_key_that_a_page_names_exists() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for code in &page.words {
            let Some((section, key)) = configured(&code.text) else {
                continue;
            };
            seen += 1;
            // vault.sh and verifier.sh are files.
            if FIELDS.contains(&code.text.as_str()) || key == "sh" {
                continue;
            }
            if !is_configured(&section, &key) {
                wrong.push(format!(
                    "{}: rempart.toml has no {key} in [{section}]",
                    page.at(code.line)
                ));
            }
        }
    }
    assert!(seen > 10, "only {seen} keys were found");
    none(wrong);
}

#[test]
fn a_configuration_in_a_page_is_one_that_the_agent_takes() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for block in &page.blocks {
            for text in configurations(&block.text) {
                seen += 1;
                let judged = Fragment::parse("the page", text).and_then(Settings::judge);
                wrong.extend(judged.err().map(|error| format!("{}: {error}", page.at(block.line))));
            }
        }
    }
    assert!(seen > 1, "only {seen} configurations were found");
    none(wrong);
}

/// A whole configuration begins with the file's name as a comment, or is what a shell writes there.
fn configurations(block: &str) -> Vec<&str> {
    const FILE: &str = "/etc/rempart/rempart.toml";
    if block.starts_with(&format!("# {FILE}\n")) {
        return vec![block];
    }
    block
        .split(&format!("> {FILE} <<'EOF'\n"))
        .skip(1)
        .filter_map(|text| text.split("\nEOF").next())
        .collect()
}

#[test]
fn a_key_that_is_not_there_is_found() {
    assert!(is_ours("Offline") && is_ours("FileMode") && !is_ours("Offlien") && !is_ours("ExecStart"));
    assert_eq!(key("OnRotate=signal:HUP"), Some("OnRotate"));
    assert_eq!(
        configured("[guard] files = \"observe\""),
        Some(("guard".into(), "files".into()))
    );
    assert_eq!(
        configured("tpm.sealed_pcrs"),
        Some(("tpm".into(), "sealed_pcrs".into()))
    );
    assert_eq!(configured("rempart.toml"), None);
    assert!(is_configured("vault", "kind") && is_configured("tee", "vmpl") && is_configured("guard", "foreign_bpf"));
    assert!(!is_configured("vault", "knid"));
}
