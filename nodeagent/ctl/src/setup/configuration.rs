//! /etc/rempart/rempart.toml from answers: what is there already stays but for the keys that were answered.
//!
//! Must never give a text that the agent's own reader refuses.

use rempart_core::config::Settings;
use toml::{Table, Value};

use super::answers::{Answers, AuthKind, VaultKind};
use crate::doctor::observe::judge;

/// First lines of a file that is written anew.
const HEAD: &str = "# Written by `rempart setup`. Every key with its meaning: /etc/rempart/rempart.toml.example.\n\
                    # Check: /usr/lib/rempart/rempartd --check\n";

/// Why there is no text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// What is there cannot be added to.
    #[error("it is no TOML ({0}); correct it, or move it away")]
    OperatorSyntax(String),
    /// The agent would not take it.
    #[error("with these answers the agent would not start: {0}")]
    Refused(String),
}

/// The new text, and what the agent makes of it together with conf.d.
pub fn text(
    there: Option<&str>,
    fragments: &[(String, String)],
    answers: &Answers,
) -> Result<(String, Settings), ConfigurationError> {
    let mut table: Table = match there {
        Some(text) => text
            .parse()
            .map_err(|error: toml::de::Error| ConfigurationError::OperatorSyntax(error.message().replace('\n', " ")))?,
        None => Table::new(),
    };
    let before = table.clone();
    put(&mut table, "node", "name", Some(answers.node.clone()));
    put(
        &mut table,
        "verifier",
        "url",
        answers.verifier.as_ref().map(|verifier| verifier.url.clone()),
    );
    put(
        &mut table,
        "verifier",
        "ca",
        answers.verifier.as_ref().map(|verifier| verifier.ca.clone()),
    );
    let vault = &answers.vault;
    put(&mut table, "vault", "kind", Some(vault.kind.word().to_owned()));
    let server = vault.server.as_ref();
    put(&mut table, "vault", "url", server.map(|server| server.url.clone()));
    put(&mut table, "vault", "ca", server.map(|server| server.ca.clone()));
    put(
        &mut table,
        "vault",
        "auth",
        server.map(|server| server.auth.word().to_owned()),
    );
    for auth in [AuthKind::Jwt, AuthKind::Cert, AuthKind::Approle] {
        let mount = server
            .filter(|server| server.auth == auth)
            .map(|server| server.mount.clone());
        put(&mut table, "vault", auth.mount_key(), mount);
    }
    put(
        &mut table,
        "vault",
        "namespace",
        server.and_then(|server| server.namespace.clone()),
    );
    if vault.kind != VaultKind::Openbao {
        // What only means something with a server.
        for key in ["wrapping", "approle_folder"] {
            put(&mut table, "vault", key, None);
        }
    }
    // Comments stay when nothing is said otherwise.
    let text = match there {
        Some(text) if table == before => text.to_owned(),
        _ => format!(
            "{HEAD}{}",
            toml::to_string(&table).map_err(|error| ConfigurationError::Refused(error.to_string()))?
        ),
    };
    let settings = judge(&text, fragments).map_err(ConfigurationError::Refused)?;
    Ok((text, settings))
}

fn put(table: &mut Table, section: &str, key: &str, value: Option<String>) {
    match (value, table.get_mut(section)) {
        (Some(value), Some(Value::Table(section))) => {
            section.insert(key.to_owned(), Value::String(value));
        }
        (Some(value), _) => {
            let mut inner = Table::new();
            inner.insert(key.to_owned(), Value::String(value));
            table.insert(section.to_owned(), Value::Table(inner));
        }
        (None, Some(Value::Table(inner))) => {
            inner.remove(key);
            if inner.is_empty() {
                table.remove(section);
            }
        }
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use rempart_core::config::{Vault, VaultAuth};

    use super::{
        super::answers::tests::{answers, local},
        *,
    };

    #[test]
    fn the_agents_own_reader_takes_what_is_written() {
        let (text, settings) = text(None, &[], &answers(AuthKind::Jwt)).expect("whole");
        assert!(text.starts_with("# Written by"), "{text}");
        assert_eq!(settings.node, "web-1");
        assert_eq!(
            settings.verifier.expect("a Verifier").origin.url(),
            "https://verifier.test:8443"
        );
        let Vault::OpenBao { origin, auth, .. } = settings.vault else {
            panic!()
        };
        assert_eq!((origin.port, auth), (8200, VaultAuth::Jwt { mount: "jwt".into() }));
    }

    #[test]
    fn each_login_and_each_store_gives_a_whole_configuration() {
        for auth in [AuthKind::Jwt, AuthKind::Cert, AuthKind::Approle] {
            let mut answers = answers(auth);
            answers.vault.server.as_mut().expect("a server").mount = "team/nodes".into();
            answers.vault.server.as_mut().expect("a server").namespace = Some("team".into());
            let (text, settings) = text(None, &[], &answers).expect("whole");
            let Vault::OpenBao { namespace, .. } = settings.vault else {
                panic!()
            };
            assert_eq!(namespace.as_deref(), Some("team"));
            assert!(
                text.contains(&format!("{} = \"team/nodes\"", auth.mount_key())),
                "{text}"
            );
        }
        let (_, settings) = text(None, &[], &local()).expect("whole");
        assert!(settings.vault == Vault::Tpm && settings.verifier.is_none());
    }

    #[test]
    fn what_was_not_asked_stays_and_the_same_answers_change_nothing() {
        let there = "# mine\n[node]\nname = \"old\"\n[guard]\nfiles = \"observe\" # for now\n[vault]\nkind = \"openbao\"\nwrapping = true\n";
        let (first, settings) = text(Some(there), &[], &answers(AuthKind::Jwt)).expect("whole");
        assert!(
            first.contains("files = \"observe\"") && first.contains("wrapping = true"),
            "{first}"
        );
        assert_eq!(settings.node, "web-1");
        let commented = format!("# mine\n{first}");
        let (second, _) = text(Some(&commented), &[], &answers(AuthKind::Jwt)).expect("whole");
        assert_eq!(second, commented);
        let (moved, settings) = text(Some(&first), &[], &local()).expect("whole");
        assert!(!moved.contains("wrapping") && !moved.contains("[verifier]"), "{moved}");
        assert_eq!(settings.vault, Vault::Tpm);
    }

    #[test]
    fn what_the_agent_would_refuse_is_not_written() {
        let mut wrong = answers(AuthKind::Jwt);
        wrong.node = "two words".into();
        assert!(matches!(text(None, &[], &wrong), Err(ConfigurationError::Refused(why)) if why.contains("node.name")));
        let unknown = "[node]\nnmae = \"x\"\n";
        let refused = text(Some(unknown), &[], &answers(AuthKind::Jwt)).expect_err("an unknown key");
        assert!(refused.to_string().contains("nmae"), "{refused}");
        let broken = text(Some("[node"), &[], &answers(AuthKind::Jwt)).expect_err("no TOML");
        assert!(matches!(broken, ConfigurationError::OperatorSyntax(_)));
        let later = [(
            "/etc/rempart/conf.d/9.toml".to_owned(),
            "[vault]\nkind = \"etcd\"\n".to_owned(),
        )];
        assert!(text(None, &later, &answers(AuthKind::Jwt)).is_err(), "conf.d counts");
    }
}
