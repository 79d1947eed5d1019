//! What the owner has to do at vault and Verifier, as files to be read first: policies of the least privilege that the units of this
//! node need, and scripts of `bao` (or `vault`) and `rempart-verifier`.
//!
//! Must never hold a secret, nor allow a path that no unit's drop-in names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    str::FromStr,
};

use rempart_core::{reference::Place, unitfile::OptIn};
use serde_json::json;

use super::answers::{Answers, AuthKind, VaultKind, VaultServer};

/// The Verifier's own login at the vault, which no unit's role may be called. Its policy is `rempart_verifier`: those of roles begin with
/// `rempart-`, so that no role is given it.
pub const VERIFIERS_ROLE: &str = "rempart-verifier";

/// What each role reads.
pub type Needs = BTreeMap<String, BTreeSet<Place>>;

/// From the drop-ins of all units, and roles that are named beside them.
pub fn needs(units: &[(String, OptIn)], more: &[String]) -> Needs {
    let mut needs: Needs = more.iter().map(|role| (role.clone(), BTreeSet::new())).collect();
    for (_, opt_in) in units {
        if let Some(role) = &opt_in.role {
            let places = opt_in.wanted().into_iter().map(|reference| reference.place().clone());
            needs.entry(role.clone()).or_default().extend(places);
        }
    }
    needs
}

/// A kind of secrets engine, as it counts for a policy (docs/secrets.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Key and value, without versions.
    Kv1,
    /// Key and value, with versions.
    Kv2,
    /// Certificates.
    Pki,
    /// Encryption.
    Transit,
    /// Databases, and every other: what is read has a lease.
    Other,
}

/// Where an engine is mounted, as the operator says it: `MOUNT=KIND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    mount: String,
    kind: Kind,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mount, kind) = text.split_once('=').ok_or("must be MOUNT=KIND")?;
        let kind = match kind {
            "kv1" => Kind::Kv1,
            "kv2" => Kind::Kv2,
            "pki" => Kind::Pki,
            "transit" => Kind::Transit,
            "database" | "other" => Kind::Other,
            _ => return Err("the kind must be kv1, kv2, pki, transit, database or other".to_owned()),
        };
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match mount.split('/').all(plain) {
            true => Ok(Self {
                mount: mount.to_owned(),
                kind,
            }),
            false => Err("the mount must be a path without slashes at its ends".to_owned()),
        }
    }
}

/// The engine that `place` lies in: as the operator says, else by the look of the path, at its first part.
fn engine(place: &Place, engines: &[Engine]) -> Engine {
    let path = place.path();
    let below = |mount: &str| path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/'));
    let named = engines.iter().filter(|engine| below(&engine.mount).is_some());
    if let Some(longest) = named.max_by_key(|engine| engine.mount.len()) {
        return longest.clone();
    }
    let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
    let begins = |word: &str| rest.starts_with(word);
    let kind = if begins("creds/") || begins("static-creds/") {
        Kind::Other
    } else if begins("issue/") {
        Kind::Pki
    } else if begins("decrypt/") || begins("datakey/plaintext/") {
        Kind::Transit
    } else {
        Kind::Kv2
    };
    Engine {
        mount: mount.to_owned(),
        kind,
    }
}

/// The policy of a role.
fn policy(role: &str, places: &BTreeSet<Place>, engines: &[Engine]) -> String {
    let mut rules: BTreeMap<String, &str> = BTreeMap::new();
    let mut leases = false;
    for place in places {
        let engine = engine(place, engines);
        let path = place.path();
        let rule = match engine.kind {
            Kind::Kv2 => {
                let below = path.strip_prefix(&engine.mount).unwrap_or_default();
                (format!("{}/data{below}", engine.mount), "read")
            }
            Kind::Kv1 => (path.to_owned(), "read"),
            Kind::Pki | Kind::Transit => (path.to_owned(), "update"),
            Kind::Other => {
                leases = true;
                (path.to_owned(), "read")
            }
        };
        rules.insert(rule.0, rule.1);
    }
    let mut text = format!("# Made by `rempart setup`: what the units of role {role} read, and nothing else.\n");
    for (path, capability) in rules {
        let _ = writeln!(text, "path \"{path}\" {{\n  capabilities = [\"{capability}\"]\n}}");
    }
    if leases {
        text.push_str(
            "# What a unit held is given back when it has ended, and does not live until its time is over.\n",
        );
        text.push_str("path \"sys/leases/revoke\" {\n  capabilities = [\"update\"]\n}\n");
    }
    text
}

/// One file for the owner.
#[derive(Debug, PartialEq, Eq)]
pub struct OwnerFile {
    /// Below the owner's folder.
    pub name: String,
    /// All of it.
    pub text: String,
    /// What it is for.
    pub why: &'static str,
}

/// All of them. `authority` is the PEM text by which the vault knows the Verifier.
pub fn files(answers: &Answers, needs: &Needs, engines: &[Engine], authority: Option<&str>) -> Vec<OwnerFile> {
    let mut files = Vec::new();
    if answers.verifier.is_some() {
        files.push(OwnerFile {
            name: "verifier.sh".to_owned(),
            text: enrolment(answers, needs),
            why: "lets this node enrol, with the roles of its units; run it where rempart-verifier runs",
        });
    }
    let Some(server) = &answers.vault.server else {
        return files;
    };
    for (role, places) in needs {
        files.push(OwnerFile {
            name: format!("policies/rempart-{role}.hcl"),
            text: policy(role, places, engines),
            why: "what the role may read",
        });
    }
    if server.auth != AuthKind::Approle {
        files.push(OwnerFile {
            name: "policies/rempart_verifier.hcl".to_owned(),
            text: revocation(server),
            why: "by which the Verifier ends the logins of a node that drifted; it reads no secret",
        });
        files.push(OwnerFile {
            name: "verifier-vault.toml".to_owned(),
            text: verifiers_vault(server),
            why: "belongs into the Verifier's own verifier.toml",
        });
    }
    if server.auth != AuthKind::Approle
        && let Some(authority) = authority
    {
        files.push(OwnerFile {
            name: "verifier-ca.pem".to_owned(),
            text: authority.to_owned(),
            why: "by which the vault knows the Verifier",
        });
    }
    files.push(OwnerFile {
        name: "vault.sh".to_owned(),
        text: script(answers, server, needs),
        why: "sets up policies, roles and logins; run it as an administrator of the vault",
    });
    files
}

/// A word of a shell that replaces nothing in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn enrolment(answers: &Answers, needs: &Needs) -> String {
    let roles: String = needs.keys().map(|role| format!(" --role {}", quoted(role))).collect();
    let mut text = format!(
        "#!/bin/sh\n# Made by `rempart setup` on {node}. Read it, then run it as the owner, where rempart-verifier runs.\n\
         # A node that is there already gets exactly these roles. To take no other TPM than the one you looked at: sh verifier.sh --ek HEX\n\
         set -eu\nrempart-verifier node add {name}{roles} \"$@\"\n",
        node = answers.node,
        name = quoted(&answers.node),
    );
    if answers.vault.kind == VaultKind::Verifier {
        text.push_str("# Each secret's value on standard input, once for all nodes:\n");
        for (role, places) in needs {
            for place in places {
                let _ = writeln!(
                    text,
                    "#   rempart-verifier secret set {} --role {}",
                    quoted(&format!("{place}#FIELD")),
                    quoted(role)
                );
            }
        }
    }
    text
}

/// docs/adr/0008: five paths, no secret.
fn revocation(server: &VaultServer) -> String {
    let mut text = String::from("# Made by `rempart setup`: for the Verifier itself (docs/adr/0008).\n");
    for path in [
        "identity/lookup/entity",
        "auth/token/lookup-accessor",
        "auth/token/revoke-accessor",
    ] {
        let _ = writeln!(text, "path \"{path}\" {{\n  capabilities = [\"update\"]\n}}");
    }
    // An entity can be given policies by the same path: the Verifier itself is one.
    text.push_str(
        "path \"identity/entity/id/*\" {\n  capabilities = [\"update\"]\n  allowed_parameters = {\n    \"disabled\" = []\n  }\n}\n",
    );
    let own = (server.auth == AuthKind::Cert).then_some(server.mount.as_str());
    for mount in [jwt_mount(server)].into_iter().chain(own) {
        let _ = writeln!(
            text,
            "path \"sys/auth/{mount}\" {{\n  capabilities = [\"read\", \"sudo\"]\n}}"
        );
    }
    text
}

/// Where the Verifier logs in itself, and the nodes too unless they do it by certificate.
fn jwt_mount(server: &VaultServer) -> &str {
    match server.auth {
        AuthKind::Jwt => &server.mount,
        AuthKind::Cert | AuthKind::Approle => AuthKind::Jwt.word(),
    }
}

fn verifiers_vault(server: &VaultServer) -> String {
    let namespace = server
        .namespace
        .as_ref()
        .map(|name| format!("namespace = \"{name}\"\n"))
        .unwrap_or_default();
    let certificates = match server.auth {
        AuthKind::Cert => format!("cert_mount = \"{}\"\n", server.mount),
        AuthKind::Jwt | AuthKind::Approle => String::new(),
    };
    format!(
        "# Made by `rempart setup`: for verifier.toml, so that the logins of a node that drifts are ended at once.\n\
         # ca is the authority of the vault's certificate, on the Verifier's machine.\n\
         [vault]\nurl = \"{}\"\nca = \"/etc/rempart-verifier/vault-ca.pem\"\nauth_mount = \"{}\"\n{certificates}role = \"rempart-verifier\"\n{namespace}",
        server.url,
        jwt_mount(server),
    )
}

/// Lives of tokens: of an attestation's interval, renewed with each.
const LIVES: (&str, &str) = ("10m", "1h");

fn script(answers: &Answers, server: &VaultServer, needs: &Needs) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Made by `rempart setup` on {}. Read it and policies/, then run it as an administrator of {}:\n\
         #   BAO_ADDR={} BAO_TOKEN=… sh vault.sh        (or VAULT_ADDR and VAULT_TOKEN, with vault)\n\
         # A second run changes nothing; for more nodes with the same roles it is not needed again.\n\
         set -eu\ncd \"$(dirname \"$0\")\"\n\
         vault=${{VAULT_PROGRAM:-$(command -v bao || command -v vault)}} || {{ echo 'vault.sh: neither bao nor vault is in PATH' >&2; exit 69; }}\n",
        answers.node, server.url, server.url
    );
    if let Some(namespace) = &server.namespace {
        let _ = writeln!(text, "export BAO_NAMESPACE={0} VAULT_NAMESPACE={0}", quoted(namespace));
    }
    let enable = |text: &mut String, mount: &str, kind: AuthKind| {
        let _ = writeln!(
            text,
            "\"$vault\" auth list -format=json | grep -qF {} || \"$vault\" auth enable -path={} {}",
            quoted(&format!("\"{mount}/\"")),
            quoted(mount),
            kind.word()
        );
    };
    enable(&mut text, &server.mount, server.auth);
    if server.auth == AuthKind::Cert {
        enable(&mut text, jwt_mount(server), AuthKind::Jwt);
    }
    if let (AuthKind::Jwt | AuthKind::Cert, Some(verifier)) = (server.auth, &answers.verifier) {
        let _ = writeln!(
            text,
            "# A mount that trusts another issuer is somebody else's.\n\
             issuer=$(\"$vault\" read -field=bound_issuer {config} 2>/dev/null || true)\n\
             [ -z \"$issuer\" ] || [ \"$issuer\" = {url} ] || {{ echo \"vault.sh: auth/{mount} trusts $issuer already: take another mount (rempart setup --auth-mount)\" >&2; exit 78; }}\n\
             # Keys and algorithms come from the Verifier, which has to run now.\n\"$vault\" write {config} oidc_discovery_url={url} \
             oidc_discovery_ca_pem=@verifier-ca.pem bound_issuer={url}",
            config = quoted(&format!("auth/{}/config", jwt_mount(server))),
            mount = jwt_mount(server),
            url = quoted(&verifier.url),
        );
    }
    if server.auth == AuthKind::Cert {
        text.push_str(
            "[ -s client-ca.pem ] || { echo 'vault.sh: put client-ca.pem of the Verifier (in the folder of its keys) beside this file' >&2; exit 66; }\n",
        );
    }
    for role in needs.keys() {
        let name = format!("rempart-{role}");
        let _ = writeln!(
            text,
            "\"$vault\" policy write {} {}",
            quoted(&name),
            quoted(&format!("policies/{name}.hcl"))
        );
        text.push_str(&login(server, role));
    }
    if server.auth != AuthKind::Approle {
        text.push_str("\"$vault\" policy write rempart_verifier policies/rempart_verifier.hcl\n");
        let role = json!({
            "role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "bound_subject": "rempart:verifier",
            "token_policies": ["rempart_verifier"], "token_ttl": LIVES.0,
        });
        text.push_str(&written(
            &format!("auth/{}/role/rempart-verifier", jwt_mount(server)),
            &role,
        ));
    }
    text
}

fn written(path: &str, body: &serde_json::Value) -> String {
    format!("\"$vault\" write {} - <<'JSON'\n{body:#}\nJSON\n", quoted(path))
}

/// How a node logs in under a role.
fn login(server: &VaultServer, role: &str) -> String {
    let (mount, policy) = (&server.mount, format!("rempart-{role}"));
    match server.auth {
        AuthKind::Jwt => {
            let settings = json!({
                "role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "bound_claims": {"roles": role},
                "token_policies": [policy], "token_ttl": LIVES.0, "token_max_ttl": LIVES.1,
            });
            written(&format!("auth/{mount}/role/{role}"), &settings)
        }
        AuthKind::Cert => format!(
            "\"$vault\" write {} certificate=@client-ca.pem allowed_uri_sans={} token_policies={} token_ttl={} token_max_ttl={}\n",
            quoted(&format!("auth/{mount}/certs/{role}")),
            quoted(&format!("rempart:role:{role}")),
            quoted(&policy),
            LIVES.0,
            LIVES.1,
        ),
        AuthKind::Approle => {
            let settings = json!({
                "token_policies": [policy], "token_ttl": LIVES.0, "token_max_ttl": LIVES.1, "secret_id_ttl": "720h",
            });
            format!(
                "# Narrow it to the nodes' addresses with token_bound_cidrs and secret_id_bound_cidrs: these ids prove nothing of the machine.\n\
                 {}# Its ids, to be written on the node, for the user rempart alone (chmod 0400):\n\
                 #   \"$vault\" read -field=role_id {path}/role-id            → /etc/rempart/approle/{role}.role-id\n\
                 #   \"$vault\" write -f -field=secret_id {path}/secret-id    → /etc/rempart/approle/{role}.secret-id\n",
                written(&format!("auth/{mount}/role/{role}"), &settings),
                path = format_args!("auth/{mount}/role/{role}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use rempart_core::unitfile::{Source, read_opt_in};

    use super::{
        super::answers::tests::{answers, local},
        *,
    };

    fn unit(name: &str, text: &str) -> (String, OptIn) {
        let text = format!("[X-Rempart]\nWrap=yes\n{text}");
        let source = [Source {
            path: name,
            text: &text,
        }];
        (
            name.to_owned(),
            read_opt_in(&source).expect("a section").expect("opted in"),
        )
    }

    fn units() -> Vec<(String, OptIn)> {
        vec![
            unit(
                "billing.service",
                "Role=billing\nSecret=A=kv/billing#a\nSecret=B=kv/billing#b\nSecret=U=db/creds/app#username\n",
            ),
            unit(
                "web.service",
                "Role=web\nSecret=K:file=pki/issue/web?common_name=w.internal#private_key\nSecret=O=team/old/x#y\n",
            ),
            unit(
                "again.service",
                "Role=web\nSecret=D=transit/decrypt/k?ciphertext=vault:v1:a#plaintext\n",
            ),
            unit("none.service", ""),
        ]
    }

    #[test]
    fn each_role_may_do_what_its_units_ask_for_and_nothing_else() {
        let needs = needs(&units(), &["ops".to_owned()]);
        assert_eq!(needs.keys().collect::<Vec<_>>(), ["billing", "ops", "web"]);
        let engines = ["team/old=kv1".parse::<Engine>().expect("an engine")];
        let rules = |role: &str| -> Vec<String> {
            let text = policy(role, &needs[role], &engines);
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            lines
                .chunks(3)
                .map(|rule| format!("{}{}", rule[0].replace(" {", ""), rule[1].replace("capabilities =", "")))
                .collect()
        };
        assert_eq!(
            rules("billing"),
            [
                "path \"db/creds/app\"   [\"read\"]",
                "path \"kv/data/billing\"   [\"read\"]",
                "path \"sys/leases/revoke\"   [\"update\"]"
            ]
        );
        assert_eq!(
            rules("web"),
            [
                "path \"pki/issue/web\"   [\"update\"]",
                "path \"team/old/x\"   [\"read\"]",
                "path \"transit/decrypt/k\"   [\"update\"]"
            ]
        );
        assert_eq!(rules("ops"), [""; 0]);
    }

    #[test]
    fn a_role_that_is_called_like_the_verifier_gets_nothing_of_its_power() {
        let needs = needs(&[unit("v.service", "Role=verifier\nSecret=A=kv/v#a\n")], &[]);
        let files = files(&answers(AuthKind::Jwt), &needs, &[], Some("PEM"));
        let holds = |name: &str, part: &str| files.iter().any(|file| file.name == name && file.text.contains(part));
        assert!(holds("policies/rempart-verifier.hcl", "kv/data/v"));
        assert!(!holds("policies/rempart-verifier.hcl", "revoke-accessor"));
        assert!(holds("policies/rempart_verifier.hcl", "revoke-accessor"));
        assert!(holds(
            "vault.sh",
            "policy write 'rempart-verifier' 'policies/rempart-verifier.hcl'"
        ));
    }

    #[test]
    fn an_engine_is_named_by_its_longest_mount() {
        let engines: Vec<Engine> = ["team=kv2", "team/old=kv1"]
            .iter()
            .map(|text| text.parse().expect("an engine"))
            .collect();
        let place = |text: &str| {
            text.parse::<rempart_core::reference::Reference>()
                .expect("a reference")
                .place()
                .clone()
        };
        assert_eq!(engine(&place("team/old/x#y"), &engines).kind, Kind::Kv1);
        assert_eq!(engine(&place("team/older/x#y"), &engines).mount, "team");
        for wrong in ["team", "team=kv", "/team=kv1", "a b=kv1", "=kv1", "t*=kv1"] {
            assert!(wrong.parse::<Engine>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_login_has_its_files_and_none_more() {
        let names = |answers: &Answers| -> Vec<String> {
            let needs = needs(&units()[..1], &[]);
            files(answers, &needs, &[], Some("PEM"))
                .into_iter()
                .map(|file| file.name)
                .collect()
        };
        let jwt = [
            "verifier.sh",
            "policies/rempart-billing.hcl",
            "policies/rempart_verifier.hcl",
            "verifier-vault.toml",
            "verifier-ca.pem",
            "vault.sh",
        ];
        assert_eq!(names(&answers(AuthKind::Jwt)), jwt);
        assert_eq!(names(&answers(AuthKind::Cert)), jwt);
        assert_eq!(
            names(&answers(AuthKind::Approle)),
            ["verifier.sh", "policies/rempart-billing.hcl", "vault.sh"]
        );
        assert_eq!(names(&local()), [""; 0]);
        let mut own = answers(AuthKind::Jwt);
        own.vault = super::super::answers::VaultAnswers {
            kind: VaultKind::Verifier,
            server: None,
        };
        assert_eq!(names(&own), ["verifier.sh"]);
        let needs = needs(&units()[..1], &[]);
        let text = enrolment(&own, &needs);
        assert!(
            text.contains("secret set 'kv/billing#FIELD' --role 'billing'"),
            "{text}"
        );
    }

    #[test]
    fn the_scripts_are_sh_and_their_words_cannot_break_out() {
        assert_eq!(quoted("a'b$(c)"), "'a'\\''b$(c)'");
        for auth in [AuthKind::Jwt, AuthKind::Cert, AuthKind::Approle] {
            let needs = needs(&units(), &[]);
            for file in files(&answers(auth), &needs, &[], Some("PEM")) {
                if !file.name.ends_with(".sh") {
                    continue;
                }
                let mut sh = std::process::Command::new("sh");
                let mut child = sh.arg("-n").stdin(std::process::Stdio::piped()).spawn().expect("sh");
                std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), file.text.as_bytes())
                    .expect("written");
                assert!(child.wait().expect("ended").success(), "{auth:?} {}", file.text);
            }
        }
    }
}
