//! What kind of engine lies under a path, and how each is asked. Follows the HTTP API of OpenBao 2 and Vault 1: secret/kv, databases, pki,
//! transit, sys/internal/ui/mounts (what `vault kv` asks as well: whoever may read a path may know its mount).
//!
//! Must never ask in a way that changes what is kept: an engine that is not known is read.

use std::collections::HashMap;

use rempart_core::reference::Place;
use rempart_secret::SecretString;
use rustify::{
    Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError as RestError,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Kinds of engines that are asked in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// Key and value, without versions.
    Kv1,
    /// Key and value, with versions.
    Kv2,
    /// Certificates: each answer is a new one.
    Pki,
    /// Encryption: gives the plaintext of what the reference holds.
    Transit,
    /// Any other, databases above all: what is read may be made for us, and then has a lease.
    Other,
}

impl Engine {
    /// Whether what it gives may be made for us, and end with our login.
    pub fn leases(self) -> bool {
        matches!(self, Self::Pki | Self::Other)
    }
}

/// Where an engine is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its path, without a slash at the end.
    pub path: String,
    /// Its kind.
    pub engine: Engine,
}

/// The server's word on it.
#[derive(Deserialize)]
pub(super) struct Told {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Option<HashMap<String, String>>,
}

impl Mount {
    /// As told of the mount that `place` lies in; `None` when it does not.
    pub fn of(told: &Told, place: &Place) -> Option<Self> {
        let path = told.path.trim_end_matches('/');
        let below = place.path().strip_prefix(path)?;
        let version = told.options.as_ref().and_then(|options| options.get("version"));
        let engine = match (told.kind.as_str(), version.map(String::as_str)) {
            ("kv" | "generic", Some("2")) => Engine::Kv2,
            ("kv" | "generic", _) => Engine::Kv1,
            ("pki", _) => Engine::Pki,
            ("transit", _) => Engine::Transit,
            _ => Engine::Other,
        };
        (below.starts_with('/') && below.len() > 1).then(|| Self {
            path: path.to_owned(),
            engine,
        })
    }

    /// Whether `place` lies in it.
    pub fn holds(&self, place: &Place) -> bool {
        place
            .path()
            .strip_prefix(&self.path)
            .is_some_and(|below| below.starts_with('/'))
    }
}

/// One question.
pub(super) struct Question {
    path: String,
    method: RequestMethod,
    query: Option<String>,
    body: Option<Vec<u8>>,
}

impl Question {
    /// Where `place` is mounted.
    pub fn mount(place: &Place) -> Self {
        Self::get(format!("sys/internal/ui/mounts/{}", place.path()))
    }

    /// What `place` in `mount` holds. `None`: this kind of engine gives no secret there.
    pub fn read(mount: &Mount, place: &Place) -> Option<Self> {
        let below = place.path().strip_prefix(&mount.path)?.strip_prefix('/')?;
        let parameters = || serde_json::to_vec(place.parameters()).ok();
        Some(match mount.engine {
            Engine::Kv2 => Self::get(format!("{}/data/{below}", mount.path)).with_query(place),
            // It has none, and a version that is asked for must not be another one.
            Engine::Kv1 if !place.parameters().is_empty() => return None,
            Engine::Kv1 => Self::get(place.path().to_owned()),
            Engine::Pki | Engine::Transit => {
                let makes: &[&str] = match mount.engine {
                    Engine::Pki => &["issue/"],
                    _ => &["decrypt/", "datakey/plaintext/"],
                };
                if !makes.iter().any(|kind| below.starts_with(kind)) {
                    return None;
                }
                Self {
                    method: RequestMethod::POST,
                    body: Some(parameters()?),
                    ..Self::get(place.path().to_owned())
                }
            }
            Engine::Other => Self::get(place.path().to_owned()).with_query(place),
        })
    }

    /// What was wrapped for the token that asks.
    pub fn unwrap() -> Self {
        Self {
            method: RequestMethod::POST,
            ..Self::get("sys/wrapping/unwrap".to_owned())
        }
    }

    /// What the token is good for.
    pub fn own_token() -> Self {
        Self::get("auth/token/lookup-self".to_owned())
    }

    /// More time for a lease.
    pub fn renew(lease: &str) -> Option<Self> {
        Self::on_lease("sys/leases/renew", lease)
    }

    /// The end of a lease.
    pub fn revoke(lease: &str) -> Option<Self> {
        Self::on_lease("sys/leases/revoke", lease)
    }

    fn on_lease(path: &str, lease: &str) -> Option<Self> {
        Some(Self {
            method: RequestMethod::POST,
            body: Some(serde_json::to_vec(&HashMap::from([("lease_id", lease)])).ok()?),
            ..Self::get(path.to_owned())
        })
    }

    fn get(path: String) -> Self {
        Self {
            path,
            method: RequestMethod::GET,
            query: None,
            body: None,
        }
    }

    fn with_query(mut self, place: &Place) -> Self {
        if !place.parameters().is_empty() {
            // What a reference can hold needs no escape but these two.
            let escaped = |text: &str| text.replace('+', "%2B").replace('=', "%3D");
            let pairs = place.parameters().iter();
            let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", escaped(value))).collect();
            self.query = Some(pairs.join("&"));
        }
        self
    }
}

/// The answer's `data` is [`Fields`], or what the caller says.
pub(super) struct Asked<T>(pub Question, pub std::marker::PhantomData<fn() -> T>);

impl<T: serde::de::DeserializeOwned + Send + Sync> Endpoint for Asked<T> {
    type Response = T;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.0.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.0.method.clone()
    }

    fn query(&self) -> Result<Option<String>, RestError> {
        Ok(self.0.query.clone())
    }

    fn body(&self) -> Result<Option<Vec<u8>>, RestError> {
        Ok(self.0.body.clone())
    }
}

/// Of one answer.
#[derive(Default)]
pub(super) struct Fields(HashMap<String, Field>);

enum Field {
    Text(SecretString),
    Object(Fields),
    Other,
}

impl Fields {
    /// The ones that hold secrets: with KV version 2 they lie in `data`, beside its metadata.
    pub fn of(mut self, engine: Engine) -> Self {
        match (engine, self.0.remove("data")) {
            (Engine::Kv2, Some(Field::Object(inner))) => inner,
            (Engine::Kv2, _) => Self::default(),
            (_, Some(field)) => {
                self.0.insert("data".into(), field);
                self
            }
            (_, None) => self,
        }
    }

    /// A field's text; an error for one that has none, `None` for one that is not there.
    pub fn text(&self, name: &str) -> Option<Result<&SecretString, ()>> {
        self.0.get(name).map(|field| match field {
            Field::Text(text) => Ok(text),
            Field::Object(_) | Field::Other => Err(()),
        })
    }

    /// A number in it.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.ok()?.expose().parse().ok()
    }
}

impl From<Value> for Field {
    /// From a `Value` a string is moved, not copied.
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(SecretString::new(text)),
            Value::Number(number) => Self::Text(SecretString::new(number.to_string())),
            Value::Bool(bool) => Self::Text(SecretString::new(bool.to_string())),
            // A chain of certificates, above all.
            Value::Array(parts) if !parts.is_empty() && parts.iter().all(Value::is_string) => {
                let parts: Vec<SecretString> = parts
                    .into_iter()
                    .filter_map(|part| match part {
                        Value::String(text) => Some(SecretString::new(text)),
                        _ => None,
                    })
                    .collect();
                let mut all = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
                for part in &parts {
                    all.push_str(part.expose());
                    all.push('\n');
                }
                Self::Text(SecretString::new(all))
            }
            Value::Object(fields) => Self::Object(fields.into()),
            Value::Array(_) | Value::Null => Self::Other,
        }
    }
}

impl From<serde_json::Map<String, Value>> for Fields {
    fn from(fields: serde_json::Map<String, Value>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde_json::Map::deserialize(from).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use rempart_core::reference::Reference;
    use serde_json::json;

    use super::*;

    fn place(text: &str) -> Place {
        text.parse::<Reference>().expect("a reference").place().clone()
    }

    fn mount(path: &str, kind: &str, version: Option<&str>, place: &Place) -> Option<Mount> {
        let told = json!({"path": path, "type": kind, "options": version.map(|version| json!({"version": version}))});
        Mount::of(&serde_json::from_value(told).expect("as the server tells it"), place)
    }

    fn asked(kind: &str, version: Option<&str>, mounted: &str, reference: &str) -> Option<String> {
        let place = place(reference);
        let question = Question::read(&mount(mounted, kind, version, &place)?, &place)?;
        let body = question.body.map(|body| String::from_utf8(body).expect("JSON"));
        Some(format!(
            "{:?} {}{}{}",
            question.method,
            question.path,
            question.query.map(|query| format!("?{query}")).unwrap_or_default(),
            body.map(|body| format!(" {body}")).unwrap_or_default()
        ))
    }

    #[test]
    fn each_engine_is_asked_in_its_way() {
        for (kind, version, mounted, reference, question) in [
            ("kv", Some("2"), "kv/", "kv/a/b#x", "GET kv/data/a/b"),
            (
                "kv",
                Some("2"),
                "team/kv/",
                "team/kv/a?version=3#x",
                "GET team/kv/data/a?version=3",
            ),
            ("kv", Some("1"), "kv/", "kv/a/b#x", "GET kv/a/b"),
            ("kv", None, "kv/", "kv/a#x", "GET kv/a"),
            ("database", None, "db/", "db/creds/app#password", "GET db/creds/app"),
            (
                "pki",
                None,
                "pki/",
                "pki/issue/web?common_name=w.internal&ttl=24h#private_key",
                r#"POST pki/issue/web {"common_name":"w.internal","ttl":"24h"}"#,
            ),
            (
                "transit",
                None,
                "t/",
                "t/decrypt/k?ciphertext=vault:v1:a+b=#plaintext",
                r#"POST t/decrypt/k {"ciphertext":"vault:v1:a+b="}"#,
            ),
            (
                "rabbitmq",
                None,
                "mq/",
                "mq/creds/r?a=b+c#password",
                "GET mq/creds/r?a=b%2Bc",
            ),
        ] {
            assert_eq!(
                asked(kind, version, mounted, reference).as_deref(),
                Some(question),
                "{reference}"
            );
        }
    }

    #[test]
    fn nothing_is_asked_that_would_change_a_key_or_lies_in_another_mount() {
        assert_eq!(asked("transit", None, "t/", "t/keys/k#x"), None);
        assert_eq!(asked("pki", None, "pki/", "pki/root/generate#x"), None);
        assert_eq!(asked("kv", Some("1"), "kv/", "kv/a?version=3#x"), None);
        assert_eq!(asked("kv", Some("2"), "kv2/", "kv/a#x"), None);
        assert_eq!(asked("kv", Some("2"), "kv/a/", "kv/a#x"), None);
    }

    #[test]
    fn fields_are_texts_numbers_and_lists_of_texts() {
        let fields: Fields = serde_json::from_value(json!({
            "data": {"a": "x", "n": 7, "chain": ["1", "2"], "o": {"b": 1}, "z": null}, "metadata": {"a": "not this"}
        }))
        .expect("fields");
        let fields = fields.of(Engine::Kv2);
        let text = |name| fields.text(name).map(|text| text.map(|text| text.expose().clone()));
        assert_eq!(text("a"), Some(Ok("x".into())));
        assert_eq!(text("n"), Some(Ok("7".into())));
        assert_eq!(text("chain"), Some(Ok("1\n2\n".into())));
        assert_eq!(
            (text("o"), text("z"), text("none")),
            (Some(Err(())), Some(Err(())), None)
        );
        assert_eq!(fields.number("n"), Some(7));
    }
}
