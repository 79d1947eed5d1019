//! The socket of `LoadCredential=`: systemd connects before each command of a unit that starts, once for each credential, and reads until the end.
//! Nothing is said but the value (systemd.exec(5), LoadCredential=); what is asked for stands in the peer's address.
//!
//! Must never answer a refusal with silence: systemd 252 and 257 take an empty answer for an empty credential and start the unit with it. What
//! is longer than it takes they refuse, and the start fails (status 243/CREDENTIALS).

use std::{sync::Arc, time::Duration};

use rempart_api::agent::Deliver;
use rempart_core::unitfile::OptIn;
use rempart_secret::SecretBytes;
use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::{
    Refusal, Releases,
    caller::{Caller, Peer, claimed},
    socket::{RELEASE, SYSTEMD, in_time, released},
    stale::copies,
    starts::Answer,
    template,
};

/// What systemd takes of one unit's credentials, names included, in bytes (CREDENTIALS_TOTAL_SIZE_MAX).
const MOST: usize = 1 << 20;
/// What is written to a peer that is refused, in bytes: well above that.
const SPOILING: usize = 16 << 20;

/// References that are delivered in modes of which `which` is true. A template may hold each of the unit's secrets.
pub fn named(opt_in: &OptIn, which: impl Fn(Deliver) -> bool) -> Vec<String> {
    let in_templates = opt_in.templates.iter().any(|template| which(template.deliver));
    let secrets = opt_in
        .secrets
        .iter()
        .filter(|secret| in_templates || which(secret.deliver));
    let secrets = secrets.map(|secret| secret.reference.to_string());
    let ingredients = opt_in.ingredients.iter().filter(|_| in_templates);
    secrets
        .chain(ingredients.map(|ingredient| ingredient.reference.to_string()))
        .collect()
}

impl Releases {
    /// One conversation.
    pub(super) async fn lend(&self, mut stream: UnixStream) {
        let (caller, name, value) = match self.credential(&stream).await {
            Ok(found) => found,
            Err((who, refusal)) => return self.deny(stream, who, &refusal).await,
        };
        // However slow the peer is: what ends early would be taken for the whole.
        match stream.write_all(value.expose()).await {
            Ok(()) => tracing::info!("systemd got the credential {name} of {}", caller.unit),
            Err(error) => tracing::warn!("systemd was gone before it got {name} of {}: {error}", caller.unit),
        }
    }

    /// Tells why, and has the start fail.
    pub(super) async fn deny(&self, mut stream: UnixStream, who: String, refusal: &Refusal) {
        self.told(who, refusal);
        // However slow the peer is: what ends early would be taken for the whole. Only root can connect and hold a place.
        let piece = vec![0; 1 << 16];
        for _ in 0..SPOILING / piece.len() {
            // systemd hangs up at its limit.
            if stream.write_all(&piece).await.is_err() {
                return;
            }
        }
    }

    async fn credential(&self, stream: &UnixStream) -> Result<(Caller, String, SecretBytes), (String, Refusal)> {
        let peer = Peer::of(stream).map_err(|refusal| ("an unknown process".to_owned(), refusal))?;
        let asked = async {
            let _turn = self.asking.of(peer.uid).await;
            peer.loader(&self.bus, &self.wrap).await
        };
        let caller = in_time("systemd", SYSTEMD, asked)
            .await
            .map_err(|refusal| (format!("pid {}", peer.pid), refusal))?;
        match self.value(&caller, claimed(stream)).await {
            Ok((name, value)) => Ok((caller, name, value)),
            Err(refusal) => Err((caller.unit, refusal)),
        }
    }

    async fn value(&self, caller: &Caller, claim: Option<(String, String)>) -> Result<(String, SecretBytes), Refusal> {
        let unit = || caller.unit.clone();
        let (claimed, name) = claim.ok_or_else(|| Refusal::LoaderUnnamed { unit: unit() })?;
        if claimed != caller.unit {
            return Err(Refusal::LoaderClaims { unit: unit(), claimed });
        }
        let opt_in = self.units.judge(caller)?;
        self.node.may_release().map_err(Refusal::Node)?;
        let answer = in_time("the Verifier or the vault", RELEASE, self.answer(caller, &opt_in)).await;
        if answer.is_err() && matches!(self.starts.held(&caller.unit, &caller.invocation), Ok(None)) {
            self.leases.drop_start(&caller.unit, &caller.invocation);
        }
        let answer = answer?;
        // The vault took its time; the node may have been locked meanwhile.
        if let Err(why) = self.node.may_release() {
            self.starts
                .end(&caller.unit, &caller.invocation, "the node was locked meanwhile");
            return Err(Refusal::Node(why));
        }
        let found = answer.credentials.iter().find(|(known, _)| *known == name);
        let (_, value) = found.ok_or_else(|| Refusal::NoCredential {
            unit: unit(),
            name: name.clone(),
        })?;
        let value = SecretBytes::build(value.len(), |out| out.copy_from_slice(value.expose()));
        Ok((name, value))
    }

    /// The one answer of this start: the vault's at systemd's first question, the same at all others.
    async fn answer(&self, caller: &Caller, opt_in: &OptIn) -> Result<Arc<Answer>, Refusal> {
        let _turn = self.starts.turn(&caller.unit).await;
        if let Some(held) = self.held(caller)? {
            return Ok(held);
        }
        if opt_in.credentials().next().is_none() {
            // Nothing is fetched for what can be given to nobody.
            return Ok(Arc::default());
        }
        let (values, age) = self.fetch(caller, opt_in).await?;
        let answer = Answer {
            credentials: self::credentials(&caller.unit, opt_in, &values)?,
            values,
            age,
        };
        self.record(caller, opt_in, age)?;
        Ok(self.starts.hold(&caller.unit, &caller.invocation, answer))
    }

    /// The answer of which systemd has got its part, for the wrapper that asks for the rest.
    pub(super) fn answer_before(&self, caller: &Caller) -> Result<Arc<Answer>, Refusal> {
        self.held(caller)?.ok_or_else(|| Refusal::StartOver {
            unit: caller.unit.clone(),
            why: "systemd has not got them from this agent in this start (was the agent started again, or systemctl daemon-reload forgotten?)",
        })
    }

    fn held(&self, caller: &Caller) -> Result<Option<Arc<Answer>>, Refusal> {
        let over = |why| Refusal::StartOver {
            unit: caller.unit.clone(),
            why,
        };
        self.starts.held(&caller.unit, &caller.invocation).map_err(over)
    }

    /// Before one of them leaves the agent.
    fn record(&self, caller: &Caller, opt_in: &OptIn, age: Option<Duration>) -> Result<(), Refusal> {
        let secrets = named(opt_in, |deliver| deliver == Deliver::Credential);
        let record = released(&caller.unit, &caller.invocation, opt_in, secrets, age);
        self.audit.record(record).map_err(Refusal::Record)
    }
}

/// Names and values of what systemd is to ask for.
fn credentials(unit: &str, opt_in: &OptIn, values: &[SecretBytes]) -> Result<Vec<(String, SecretBytes)>, Refusal> {
    let deliveries = template::deliveries(unit, opt_in, copies(values))?;
    let credentials = deliveries
        .into_iter()
        .filter(|delivery| delivery.deliver == Deliver::Credential);
    let credentials: Vec<_> = credentials.map(|delivery| (delivery.name, delivery.value)).collect();
    let total: usize = credentials.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MOST {
        return Err(Refusal::CredentialsTooLong { unit: unit.to_owned() });
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use rempart_core::unitfile::{Source, read_opt_in};

    use super::*;

    fn opt_in(lines: &str) -> OptIn {
        let text = format!("[X-Rempart]\nWrap=yes\nRole=a\n{lines}");
        let source = Source { path: "a", text: &text };
        read_opt_in(&[source]).expect("valid").expect("opted in")
    }

    #[test]
    fn the_record_names_what_each_of_the_two_ways_could_carry() {
        let both = opt_in("Secret=A=kv/a#a\nSecret=b:credential=kv/b#b\n");
        let credential = |deliver| deliver == Deliver::Credential;
        let other = |deliver| deliver != Deliver::Credential;
        assert_eq!(both.credentials().collect::<Vec<_>>(), ["b"]);
        assert_eq!(
            (named(&both, credential), named(&both, other)),
            (vec!["kv/b#b".into()], vec!["kv/a#a".into()])
        );
        let template = opt_in("Secret=A=kv/a#a\nSecret=c:template=kv/c#c\nTemplate=t:credential=/etc/t\n");
        assert_eq!(template.credentials().collect::<Vec<_>>(), ["t"]);
        assert_eq!(
            named(&template, credential),
            ["kv/a#a", "kv/c#c"],
            "each can stand in it"
        );
        assert_eq!(named(&template, other), ["kv/a#a"]);
        assert_eq!(opt_in("Secret=A=kv/a#a\n").credentials().count(), 0);
    }

    #[test]
    fn more_than_systemd_takes_is_refused_before_it_is_asked_for() {
        let two = opt_in("Secret=a:credential=kv/a#a\nSecret=b:credential=kv/b#b\nSecret=F:file=kv/f#f\n");
        let values = |len: usize| [len, MOST / 2, MOST].map(|len| SecretBytes::new(vec![1; len]));
        let given = credentials("a.service", &two, &values(MOST / 2 - 2)).expect("just so much");
        assert_eq!(given.len(), 2);
        let refused = credentials("a.service", &two, &values(MOST / 2 - 1));
        assert!(matches!(refused, Err(Refusal::CredentialsTooLong { .. })));
    }
}
