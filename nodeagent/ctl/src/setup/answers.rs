//! What setup has to know: from the command line, from the configuration that is there, or asked at the terminal.

use std::io::{BufRead, Write};

use clap::ValueEnum;
use rempart_core::config::{Origin, Settings, Vault, VaultAuth};
use toml::{Table, Value};

use crate::{failure::Failure, talk::one_line};

/// Wrong answers at the terminal to one question.
const TRIES: usize = 5;

/// What the operator may say on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Given {
    /// The node's name, under which the owner adds it at the Verifier.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// The Verifier, https://HOST:PORT. May be left out with --vault tpm: then nobody outside judges this machine.
    #[arg(long, value_name = "URL")]
    pub verifier: Option<String>,
    /// The authority of the Verifier's certificate, PEM; copied to /etc/rempart unless it lies there.
    #[arg(long, value_name = "FILE")]
    pub verifier_ca: Option<String>,
    /// Where the secrets come from.
    #[arg(long, value_enum, value_name = "KIND")]
    pub vault: Option<VaultKind>,
    /// The vault, https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub vault_url: Option<String>,
    /// The authority of the vault's certificate, PEM; the Verifier's when left out.
    #[arg(long, value_name = "FILE")]
    pub vault_ca: Option<String>,
    /// How the node logs in at the vault.
    #[arg(long, value_enum, value_name = "KIND")]
    pub auth: Option<AuthKind>,
    /// Where that auth method is mounted; by default at its own name.
    #[arg(long, value_name = "MOUNT")]
    pub auth_mount: Option<String>,
    /// The vault's namespace.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// `vault.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VaultKind {
    /// OpenBao, or HashiCorp Vault.
    #[value(alias = "vault")]
    Openbao,
    /// The Verifier's own store.
    Verifier,
    /// Values that this machine's TPM keeps.
    Tpm,
}

/// `vault.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthKind {
    /// The Attestation Result.
    Jwt,
    /// A client certificate over a key in the TPM.
    Cert,
    /// Two ids from files, which prove nothing of the machine.
    Approle,
}

impl VaultKind {
    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Openbao => "openbao",
            Self::Verifier => "verifier",
            Self::Tpm => "tpm",
        }
    }
}

impl AuthKind {
    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Cert => "cert",
            Self::Approle => "approle",
        }
    }

    /// The key that says where it is mounted.
    pub fn mount_key(self) -> &'static str {
        match self {
            Self::Jwt => "auth_mount",
            Self::Cert => "cert_mount",
            Self::Approle => "approle_mount",
        }
    }
}

/// All answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The node's name.
    pub node: String,
    /// The Verifier; none for a node that keeps its secrets itself.
    pub verifier: Option<Server>,
    /// Where the secrets come from.
    pub vault: VaultAnswers,
}

/// A server, and whom its certificate must be by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As the operator wrote it, without a slash at its end.
    pub url: String,
    /// A PEM file.
    pub ca: String,
}

/// `[vault]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultAnswers {
    /// Of which kind.
    pub kind: VaultKind,
    /// For OpenBao.
    pub server: Option<VaultServer>,
}

/// OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultServer {
    /// As the operator wrote it.
    pub url: String,
    /// A PEM file.
    pub ca: String,
    /// How the node logs in.
    pub auth: AuthKind,
    /// Where.
    pub mount: String,
    /// In which namespace.
    pub namespace: Option<String>,
}

/// Whom to ask what the command line does not say.
pub struct Terminal<'a> {
    /// Absent: nobody is asked.
    pub input: Option<&'a mut dyn BufRead>,
    /// Where questions go.
    pub output: &'a mut dyn Write,
}

/// Why an answer is none.
type Judge = fn(&str) -> Result<(), String>;

impl Terminal<'_> {
    /// The answer to `question`, or what `flag` said before. Without a terminal the default has to do.
    fn answer(
        &mut self,
        flag: &'static str,
        question: &str,
        said: Option<&String>,
        default: Option<String>,
        judge: Judge,
    ) -> Result<String, Failure> {
        let wrong = |why: String| Failure::Usage(format!("{flag}: {why}"));
        if let Some(said) = said {
            return judge(said).map(|()| said.clone()).map_err(wrong);
        }
        let Some(input) = self.input.as_mut() else {
            let default = default.ok_or_else(|| Failure::Usage(format!("{flag} is missing: {question}")))?;
            return judge(&default).map(|()| default).map_err(wrong);
        };
        for _ in 0..TRIES {
            let shown = default
                .as_ref()
                .map(|default| format!(" [{default}]"))
                .unwrap_or_default();
            let mut line = String::new();
            let read = write!(self.output, "{question}{shown}: ")
                .and_then(|()| self.output.flush())
                .and_then(|()| input.read_line(&mut line))
                .map_err(|error| Failure::Machine(format!("the terminal: {error}")))?;
            if read == 0 {
                break;
            }
            let answer = match (line.trim(), &default) {
                ("", Some(default)) => default.clone(),
                (answer, _) => answer.to_owned(),
            };
            match judge(&answer) {
                Ok(()) => return Ok(answer),
                Err(why) => {
                    let _ = writeln!(self.output, "  {}", one_line(&why));
                }
            }
        }
        Err(Failure::Usage(format!("{flag} is missing: no answer that can be used")))
    }

    /// Whether the operator says yes; without a terminal, `otherwise`.
    pub fn agrees(&mut self, question: &str, otherwise: bool) -> Result<bool, Failure> {
        let Some(input) = self.input.as_mut() else {
            return Ok(otherwise);
        };
        let mut line = String::new();
        write!(self.output, "{question} [y/N]: ")
            .and_then(|()| self.output.flush())
            .and_then(|()| input.read_line(&mut line))
            .map_err(|error| Failure::Machine(format!("the terminal: {error}")))?;
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }
}

/// The configuration so far.
#[derive(Debug)]
pub struct Before {
    settings: Settings,
    table: Table,
}

impl Before {
    /// As judged with conf.d, and the main file's text.
    pub fn of(settings: Settings, text: &str) -> Self {
        Self {
            settings,
            table: text.parse().unwrap_or_default(),
        }
    }

    /// A server as it was written: with its port or without, as a Verifier's identifier is.
    fn url(&self, section: &str, origin: &Origin) -> String {
        let written = self
            .table
            .get(section)
            .and_then(|section| section.get("url"))
            .and_then(Value::as_str);
        let same = |url: &&str| Origin::parse("url", url).is_ok_and(|parsed| parsed == *origin);
        written.filter(same).map_or_else(|| origin.url(), str::to_owned)
    }
}

/// All answers. `there` is the configuration so far, `host` the machine's own name.
pub fn gather(
    given: &Given,
    there: Option<&Before>,
    host: &str,
    terminal: &mut Terminal<'_>,
) -> Result<Answers, Failure> {
    let node = there
        .map(|before| before.settings.node.clone())
        .or_else(|| Some(host.to_owned()));
    let node = terminal.answer(
        "--node",
        "The node's name at the Verifier",
        given.node.as_ref(),
        node,
        node_name,
    )?;
    let kind = kind(given, there, terminal)?;
    let before = there.and_then(|before| Some((before, before.settings.verifier.as_ref()?)));
    let url = before.map(|(before, verifier)| before.url("verifier", &verifier.origin));
    let url = match (kind, &given.verifier) {
        (VaultKind::Tpm, None) => {
            let none = url.or_else(|| Some("none".to_owned()));
            terminal.answer(
                "--verifier",
                "The Verifier, https://HOST:PORT, or none",
                None,
                none,
                origin_or_none,
            )?
        }
        (_, said) => terminal.answer(
            "--verifier",
            "The Verifier, https://HOST:PORT",
            said.as_ref(),
            url,
            origin,
        )?,
    };
    let verifier = match url.as_str() {
        "none" => None,
        url => {
            let ca = before.map(|(_, verifier)| verifier.ca.display().to_string());
            let question = "The authority of its certificate, a PEM file";
            Some(Server {
                url: url.trim_end_matches('/').to_owned(),
                ca: terminal.answer("--verifier-ca", question, given.verifier_ca.as_ref(), ca, some)?,
            })
        }
    };
    let server = match kind {
        VaultKind::Openbao => Some(vault(given, there, verifier.as_ref(), terminal)?),
        VaultKind::Verifier | VaultKind::Tpm => {
            let said = [
                ("--vault-url", given.vault_url.is_some()),
                ("--vault-ca", given.vault_ca.is_some()),
                ("--auth", given.auth.is_some()),
                ("--auth-mount", given.auth_mount.is_some()),
                ("--namespace", given.namespace.is_some()),
            ];
            if let Some((flag, _)) = said.iter().find(|(_, said)| *said) {
                return Err(Failure::Usage(format!(
                    "{flag} is for --vault openbao; this store needs no login"
                )));
            }
            None
        }
    };
    Ok(Answers {
        node,
        verifier,
        vault: VaultAnswers { kind, server },
    })
}

fn kind(given: &Given, there: Option<&Before>, terminal: &mut Terminal<'_>) -> Result<VaultKind, Failure> {
    let said = given.vault.map(|kind| kind.word().to_owned());
    let before = there.map(|before| match before.settings.vault {
        Vault::OpenBao { .. } => "openbao".to_owned(),
        Vault::Verifier => "verifier".to_owned(),
        Vault::Tpm => "tpm".to_owned(),
    });
    let question =
        "Where the secrets come from: openbao (or HashiCorp Vault), verifier (its own store), tpm (this machine)";
    let judge: Judge = |word| {
        VaultKind::from_str(word, false)
            .map(drop)
            .map_err(|_| "must be openbao, verifier or tpm".into())
    };
    let word = terminal.answer("--vault", question, said.as_ref(), before, judge)?;
    VaultKind::from_str(&word, false).map_err(Failure::Usage)
}

fn vault(
    given: &Given,
    there: Option<&Before>,
    verifier: Option<&Server>,
    terminal: &mut Terminal<'_>,
) -> Result<VaultServer, Failure> {
    let url = there.and_then(|before| match &before.settings.vault {
        Vault::OpenBao { origin, .. } => Some(before.url("vault", origin)),
        Vault::Verifier | Vault::Tpm => None,
    });
    let before = there.and_then(|before| match &before.settings.vault {
        Vault::OpenBao {
            ca, auth, namespace, ..
        } => Some((ca, auth, namespace)),
        Vault::Verifier | Vault::Tpm => None,
    });
    let url = terminal.answer(
        "--vault-url",
        "The vault, https://HOST:PORT",
        given.vault_url.as_ref(),
        url,
        origin,
    )?;
    let ca = before.map(|(ca, ..)| ca.display().to_string());
    let ca = ca.or_else(|| verifier.map(|verifier| verifier.ca.clone()));
    let question = "The authority of its certificate, a PEM file";
    let ca = terminal.answer("--vault-ca", question, given.vault_ca.as_ref(), ca, some)?;
    let (auth_before, mount_before) = match before.map(|(_, auth, _)| auth) {
        Some(VaultAuth::Jwt { mount }) => (AuthKind::Jwt, Some(mount)),
        Some(VaultAuth::Cert { mount }) => (AuthKind::Cert, Some(mount)),
        Some(VaultAuth::AppRole { mount, .. }) => (AuthKind::Approle, Some(mount)),
        None => (AuthKind::Jwt, None),
    };
    let question =
        "How the node logs in: jwt (the attestation result), cert (a key in the TPM), approle (ids that prove nothing)";
    let said = given.auth.map(|auth| auth.word().to_owned());
    let judge: Judge = |word| {
        AuthKind::from_str(word, false)
            .map(drop)
            .map_err(|_| "must be jwt, cert or approle".into())
    };
    let auth = terminal.answer(
        "--auth",
        question,
        said.as_ref(),
        Some(auth_before.word().to_owned()),
        judge,
    )?;
    let auth = AuthKind::from_str(&auth, false).map_err(Failure::Usage)?;
    let mount = mount_before.filter(|_| auth == auth_before).cloned();
    let mount = mount.unwrap_or_else(|| auth.word().to_owned());
    let mount = terminal.answer(
        "--auth-mount",
        "Where that is mounted",
        given.auth_mount.as_ref(),
        Some(mount),
        some,
    )?;
    Ok(VaultServer {
        url: url.trim_end_matches('/').to_owned(),
        ca,
        auth,
        mount,
        namespace: given
            .namespace
            .clone()
            .or_else(|| before.and_then(|(.., namespace)| namespace.clone())),
    })
}

fn some(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(()),
    }
}

fn node_name(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.is_empty() || text.len() > rempart_core::config::MAX_NODE_NAME || !text.bytes().all(plain) {
        true => Err("must be 1 to 64 letters, digits, dots, dashes or underscores".to_owned()),
        false => Ok(()),
    }
}

fn origin(text: &str) -> Result<(), String> {
    Origin::parse("url", text).map(drop).map_err(|error| error.to_string())
}

fn origin_or_none(text: &str) -> Result<(), String> {
    match text {
        "none" => Ok(()),
        text => origin(text),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A node with everything.
    pub fn answers(auth: AuthKind) -> Answers {
        Answers {
            node: "web-1".into(),
            verifier: Some(Server {
                url: "https://verifier.test:8443".into(),
                ca: "/etc/rempart/verifier-ca.pem".into(),
            }),
            vault: VaultAnswers {
                kind: VaultKind::Openbao,
                server: Some(VaultServer {
                    url: "https://vault.test:8200".into(),
                    ca: "/etc/rempart/vault-ca.pem".into(),
                    auth,
                    mount: auth.word().into(),
                    namespace: None,
                }),
            },
        }
    }

    /// A node that nobody outside judges.
    pub fn local() -> Answers {
        Answers {
            node: "web-1".into(),
            verifier: None,
            vault: VaultAnswers {
                kind: VaultKind::Tpm,
                server: None,
            },
        }
    }

    fn given() -> Given {
        Given {
            node: Some("web-1".into()),
            verifier: Some("https://verifier.test:8443/".into()),
            verifier_ca: Some("/etc/rempart/verifier-ca.pem".into()),
            vault: Some(VaultKind::Openbao),
            vault_url: Some("https://vault.test:8200".into()),
            vault_ca: Some("/etc/rempart/vault-ca.pem".into()),
            ..Given::default()
        }
    }

    fn silent(given: &Given, there: Option<&Before>) -> Result<Answers, String> {
        let mut none = Vec::new();
        let mut terminal = Terminal {
            input: None,
            output: &mut none,
        };
        gather(given, there, "host", &mut terminal).map_err(|failure| failure.to_string())
    }

    fn typed(given: &Given, lines: &str) -> (Result<Answers, String>, String) {
        let mut shown = Vec::new();
        let mut lines = lines.as_bytes();
        let mut terminal = Terminal {
            input: Some(&mut lines),
            output: &mut shown,
        };
        let answers = gather(given, None, "host", &mut terminal).map_err(|failure| failure.to_string());
        (answers, String::from_utf8(shown).expect("text"))
    }

    #[test]
    fn the_command_line_can_say_all_of_it() {
        assert_eq!(silent(&given(), None), Ok(answers(AuthKind::Jwt)));
        let local_only = Given {
            node: Some("web-1".into()),
            vault: Some(VaultKind::Tpm),
            ..Given::default()
        };
        assert_eq!(silent(&local_only, None), Ok(local()));
    }

    #[test]
    fn what_is_missing_is_named_by_its_flag_when_nobody_can_be_asked() {
        type Remove = fn(&mut Given);
        let cases: [(&str, Remove); 4] = [
            ("--verifier ", |given| given.verifier = None),
            ("--verifier-ca", |given| given.verifier_ca = None),
            ("--vault ", |given| given.vault = None),
            ("--vault-url", |given| given.vault_url = None),
        ];
        for (flag, remove) in cases {
            let mut given = given();
            remove(&mut given);
            let why = silent(&given, None).expect_err(flag);
            assert!(why.starts_with(flag) && why.contains("missing"), "{why}");
        }
        let mut wrong = given();
        wrong.verifier = Some("http://verifier.test".into());
        assert!(silent(&wrong, None).expect_err("http").contains("https://"));
        wrong = given();
        wrong.vault = Some(VaultKind::Verifier);
        assert!(silent(&wrong, None).expect_err("no server").contains("--vault-url"));
    }

    #[test]
    fn the_terminal_is_asked_for_the_rest_and_again_after_a_wrong_answer() {
        let lines = "\nopenbao\nhttp://x\nhttps://verifier.test:8443\n/etc/rempart/verifier-ca.pem\nhttps://vault.test:8200\n/etc/rempart/vault-ca.pem\ncert\n\n";
        let (answered, shown) = typed(&Given::default(), lines);
        let mut wanted = answers(AuthKind::Cert);
        wanted.node = "host".into();
        assert_eq!(answered, Ok(wanted));
        assert!(
            shown.contains("[host]") && shown.contains("must begin with https://"),
            "{shown}"
        );
        let (ended, _) = typed(&Given::default(), "\n");
        assert!(ended.expect_err("the terminal was closed").contains("--vault"));
    }

    #[test]
    fn the_configuration_that_is_there_gives_the_defaults() {
        let mut wanted = answers(AuthKind::Cert);
        wanted.verifier.as_mut().expect("a Verifier").url = "https://verifier.test".into();
        let (text, settings) = super::super::configuration::text(None, &[], &wanted).expect("a configuration");
        let before = Before::of(settings, &text);
        assert_eq!(
            silent(&Given::default(), Some(&before)),
            Ok(wanted),
            "without a port, as it was written"
        );
        let moved = Given {
            auth: Some(AuthKind::Jwt),
            ..Given::default()
        };
        let mut wanted = answers(AuthKind::Jwt);
        wanted.verifier.as_mut().expect("a Verifier").url = "https://verifier.test".into();
        assert_eq!(
            silent(&moved, Some(&before)),
            Ok(wanted),
            "another method, another mount"
        );
    }
}
