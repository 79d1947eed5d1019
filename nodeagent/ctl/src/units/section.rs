//! The section `[X-Rempart]`, from the command line to the text of a file.
//!
//! Must never echo what stands in the place of a reference: it could be the secret itself.

use rempart_core::unitfile::{Error, Fault, OptIn, Source, read_opt_in};

use crate::failure::Failure;

/// What a unit opts into.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Section {
    /// Under which role the node asks the vault.
    #[arg(long)]
    pub role: Option<String>,
    /// A secret: the name that the program knows it by, how it is delivered, and where it lies (MOUNT/PATH#FIELD).
    #[arg(long = "secret", value_name = "NAME[:MODE]=REF")]
    pub secrets: Vec<String>,
    /// How secrets without a mode of their own are delivered.
    #[arg(long, value_name = "MODE", value_parser = ["getenv", "fd", "file", "env", "credential"])]
    pub deliver: Option<String>,
    /// What happens to attempts on the unit.
    #[arg(long, value_name = "MODE", value_parser = ["enforce", "kill", "observe"])]
    pub protect: Option<String>,
    /// What happens to the unit's own output with a secret in it.
    #[arg(long, value_name = "MODE", value_parser = ["off", "observe", "enforce", "kill"])]
    pub leak: Option<String>,
    /// A secret that the unit puts out in clear.
    #[arg(long, value_name = "NAME")]
    pub leak_except: Vec<String>,
    /// Which memory the program's heap is.
    #[arg(long, value_parser = ["secret", "ordinary"])]
    pub memory: Option<String>,
    /// Most bytes of a secret heap, with K, M or G.
    #[arg(long, value_name = "SIZE", requires = "memory")]
    pub memory_size: Option<String>,
}

impl Section {
    /// Its text, read again the way that generator and agent read it.
    pub fn text(&self) -> Result<String, Failure> {
        let text = self.written()?;
        let files = [Source {
            path: "the section",
            text: &text,
        }];
        match read_opt_in(&files) {
            Ok(Some(OptIn { .. })) => Ok(text),
            Ok(None) => Err(Failure::Machine(
                "a section was written that does not opt in".to_owned(),
            )),
            Err(error) => Err(wrong(error, &text)),
        }
    }

    fn written(&self) -> Result<String, Failure> {
        let mut text = String::from("[X-Rempart]\nWrap=yes\n");
        let single = |key, value: &Option<String>| value.clone().map(|value| (key, value));
        let lines = [single("Role", &self.role), single("Deliver", &self.deliver)]
            .into_iter()
            .flatten()
            .chain(self.secrets.iter().map(|secret| ("Secret", secret.clone())))
            .chain(
                [single("Protect", &self.protect), single("Leak", &self.leak)]
                    .into_iter()
                    .flatten(),
            )
            .chain(self.leak_except.iter().map(|name| ("LeakExcept", name.clone())))
            .chain(
                [single("Memory", &self.memory), single("MemorySize", &self.memory_size)]
                    .into_iter()
                    .flatten(),
            );
        for (key, value) in lines {
            text.push_str(&line(key, &value)?);
        }
        Ok(text)
    }
}

/// `KEY=VALUE`, which stays one line whatever `value` is.
pub fn line(key: &str, value: &str) -> Result<String, Failure> {
    let why = if value.chars().any(char::is_control) {
        "it has a control character"
    } else if value.ends_with('\\') {
        "it ends in a backslash, which would take in the next line"
    } else if value.is_empty() {
        "it is empty"
    } else {
        return Ok(format!("{key}={value}\n"));
    };
    Err(Failure::Unit {
        unit: format!("{key}="),
        why: why.to_owned(),
    })
}

/// The line that is wrong, without what it says where that could be a value.
fn wrong(Error { line, fault, .. }: Error, text: &str) -> Failure {
    let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let (unit, why) = match fault {
        Fault::Reference(_) | Fault::SecretShape => {
            // `NAME` only where a reference was to follow.
            let given = written.split_once('=').and_then(|(_, given)| given.split_once('='));
            let name = given.map_or("", |(name, _)| name.split(':').next().unwrap_or_default());
            let why = "wanted is NAME=MOUNT/PATH#FIELD or NAME:MODE=MOUNT/PATH#FIELD: where the secret lies, never the secret";
            (format!("Secret={name}"), why.to_owned())
        }
        Fault::NoRole => (
            "Role=".to_owned(),
            "there are secrets, but no role; add --role".to_owned(),
        ),
        fault => (
            written.split('=').next().unwrap_or_default().to_owned(),
            fault.to_string(),
        ),
    };
    Failure::Unit { unit, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Section {
        Section {
            role: Some("billing".into()),
            secrets: vec!["DB_PASSWORD=kv/billing#db".into(), "tls.key:file=kv/web#tls".into()],
            deliver: Some("getenv".into()),
            protect: Some("kill".into()),
            leak: Some("enforce".into()),
            leak_except: vec!["DB_PASSWORD".into()],
            memory: Some("secret".into()),
            memory_size: Some("64M".into()),
        }
    }

    #[test]
    fn every_option_becomes_its_line_and_is_read_back() {
        let text = full().text().expect("valid");
        assert_eq!(
            text,
            "[X-Rempart]\nWrap=yes\nRole=billing\nDeliver=getenv\nSecret=DB_PASSWORD=kv/billing#db\n\
             Secret=tls.key:file=kv/web#tls\nProtect=kill\nLeak=enforce\nLeakExcept=DB_PASSWORD\nMemory=secret\nMemorySize=64M\n"
        );
        assert_eq!(
            Section::default().text().expect("no secrets"),
            "[X-Rempart]\nWrap=yes\n"
        );
    }

    #[test]
    fn a_value_cannot_bring_in_a_line_of_its_own() {
        for role in ["a\nWrap=no", "a\r", "a\\", ""] {
            let section = Section {
                role: Some(role.into()),
                ..Section::default()
            };
            assert!(section.text().is_err(), "{role:?}");
        }
    }

    #[test]
    fn a_secret_given_in_the_place_of_its_reference_is_not_echoed() {
        for given in ["PW=hunter2-hunter2", "hunter2-hunter2", "PW:hunter2-hunter2=kv/a#b"] {
            let section = Section {
                role: Some("a".into()),
                secrets: vec![given.into()],
                ..Section::default()
            };
            let line = section.text().expect_err(given).to_string();
            assert!(line.contains("never the secret"), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn what_the_reader_refuses_is_refused_with_its_key() {
        let section = |change: fn(&mut Section)| {
            let mut section = full();
            change(&mut section);
            section.text().expect_err("refused").to_string()
        };
        assert!(section(|s| s.role = None).contains("--role"));
        assert!(section(|s| s.role = Some("a b".into())).starts_with("Role"));
        assert!(section(|s| s.memory_size = Some("1K".into())).contains("MemorySize"));
        assert!(section(|s| s.leak_except = vec!["X".into()]).contains("none of the unit's secrets"));
        assert!(section(|s| s.secrets.push("LD_PRELOAD=kv/a#b".into())).contains("reserved"));
        assert!(section(|s| s.secrets.push("DB_PASSWORD=kv/a#b".into())).contains("twice"));
    }
}
