//! Nodes, the TPMs that hold their names, approvals and latches. The first TPM keeps a name: a unique key decides, whichever replica
//! is asked, and nothing but `node rm` gives the name free.

use rempart_attest::Fixed;

use super::database::{Row, Step, Written};
use super::history::{note, what};
use super::revocations;
use super::{Act, EnrolledEk, FIRST_USE, Fields, Latch, Node, PENDING, Registry, RegistryError, Seen};

/// Nodes read at once by `nodes`.
const PAGE: usize = 1000;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT n.name, n.roles, h.ek, CASE WHEN a.node IS NULL THEN h.identity ELSE 'approved' END, h.since, ",
            "l.reason, l.since, s.at, s.outcome FROM node n LEFT JOIN holder h ON h.node = n.name ",
            "LEFT JOIN approval a ON a.node = n.name LEFT JOIN latch l ON l.node = n.name LEFT JOIN seen s ON s.node = n.name ",
            $rest
        )
    };
}

const HOLD: &str = "INSERT INTO holder (node, ek, identity, since) SELECT $1, $2, $3, $4 \
    WHERE EXISTS (SELECT 1 FROM node WHERE name = $1) ON CONFLICT DO NOTHING";

impl Registry {
    /// One node.
    pub async fn node(&self, name: &str) -> Result<Option<Node>, RegistryError> {
        let rows = self
            .database
            .read(select!("WHERE n.name = $1"), vec![name.into()])
            .await?;
        rows.into_iter().next().map(node).transpose()
    }

    /// The next nodes after a name, in the order of names; an empty answer is the end.
    pub async fn nodes_after(&self, name: &str) -> Result<Vec<Node>, RegistryError> {
        let params = vec![name.into(), (PAGE as u64).into()];
        let rows = self
            .database
            .read(select!("WHERE n.name > $1 ORDER BY n.name LIMIT $2"), params)
            .await?;
        rows.into_iter().map(node).collect()
    }

    /// Lets a node enrol; one that is there gets exactly these roles and keeps its TPM. With `ek`, the name is that TPM's at once.
    pub async fn add_node(
        &self,
        name: &str,
        roles: &[String],
        ek: Option<&EnrolledEk>,
        act: &Act<'_>,
    ) -> Result<(), RegistryError> {
        let roles = roles.join(" ");
        let holder = self.node(name).await?.and_then(|node| node.ek);
        let mut steps = vec![
            note(act, what::ADDED, name, &roles),
            Step::may(
                "INSERT INTO node (name, roles) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET roles = excluded.roles",
                vec![name.into(), roles.into()],
            ),
        ];
        match (holder, ek) {
            (Some(holder), Some(ek)) if holder.fingerprint != ek.fingerprint => return Err(taken(name, &holder)),
            (None, Some(ek)) => {
                steps.push(note(act, what::ENROLLED, name, &words(ek)));
                steps.push(hold(name, ek));
            }
            _ => {}
        }
        // Somebody of this name may be disabled at the vault.
        steps.extend(revocations::again(name, act));
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => self.why_not_held(name, ek).await,
        }
    }

    /// Forgets a node and its TPM.
    pub async fn remove_node(&self, name: &str, act: &Act<'_>) -> Result<(), RegistryError> {
        let mut steps = vec![
            note(act, what::REMOVED, name, ""),
            Step::must("DELETE FROM node WHERE name = $1", vec![name.into()]),
        ];
        steps.extend(revocations::queue(name, act));
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => Err(RegistryError::UnknownNode(name.into())),
        }
    }

    /// Gives the name to a TPM. The first one keeps it: another one is refused, whoever comes when.
    pub async fn bind_ek(&self, name: &str, ek: &EnrolledEk, act: &Act<'_>) -> Result<(), RegistryError> {
        // Most enrolments after the first are by the same TPM again and change nothing.
        match self.node(name).await?.and_then(|node| node.ek) {
            Some(holder) if holder.fingerprint == ek.fingerprint => return Ok(()),
            Some(holder) => return Err(taken(name, &holder)),
            None => {}
        }
        let steps = vec![note(act, what::ENROLLED, name, &words(ek)), hold(name, ek)];
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => self.why_not_held(name, Some(ek)).await,
        }
    }

    async fn why_not_held(&self, name: &str, ek: Option<&EnrolledEk>) -> Result<(), RegistryError> {
        match self.node(name).await?.map(|node| node.ek) {
            None => Err(RegistryError::UnknownNode(name.into())),
            Some(Some(holder)) if ek.is_some_and(|ek| ek.fingerprint == holder.fingerprint) => Ok(()),
            Some(Some(holder)) => Err(taken(name, &holder)),
            Some(None) => Err(RegistryError::Damaged("node")),
        }
    }

    /// The operator's word for a TPM that was the first under its name.
    pub async fn approve(&self, name: &str, ek: &Fixed<32>, act: &Act<'_>) -> Result<(), RegistryError> {
        let steps = vec![
            note(act, what::APPROVED, name, &ek.to_string()),
            Step::must(
                "INSERT INTO approval (node, who, since) SELECT $1, $2, $3 \
                 WHERE EXISTS (SELECT 1 FROM holder WHERE node = $1 AND ek = $4 AND identity IN ($5, $6)) ON CONFLICT DO NOTHING",
                vec![
                    name.into(),
                    act.who.into(),
                    act.at.into(),
                    ek.0.as_slice().into(),
                    PENDING.into(),
                    FIRST_USE.into(),
                ],
            ),
        ];
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => Err(RegistryError::NothingPending(name.into())),
        }
    }

    /// Refuses a node until an operator clears it. True when it was not latched before.
    pub async fn latch(&self, name: &str, reason: &str, act: &Act<'_>) -> Result<bool, RegistryError> {
        let mut steps = vec![
            note(act, what::LATCHED, name, reason),
            Step::must(
                "INSERT INTO latch (node, reason, since) SELECT $1, $2, $3 \
                 WHERE EXISTS (SELECT 1 FROM node WHERE name = $1) ON CONFLICT DO NOTHING",
                vec![name.into(), reason.into(), act.at.into()],
            ),
        ];
        steps.extend(revocations::queue(name, act));
        Ok(self.database.write(steps).await? == Written::All)
    }

    /// Lets a latched node attest again.
    pub async fn clear(&self, name: &str, act: &Act<'_>) -> Result<(), RegistryError> {
        let mut steps = vec![
            note(act, what::CLEARED, name, ""),
            Step::must("DELETE FROM latch WHERE node = $1", vec![name.into()]),
        ];
        steps.extend(revocations::queue(name, act));
        match (self.database.write(steps).await?, self.node(name).await?) {
            (Written::All, _) => Ok(()),
            (Written::Stopped, Some(_)) => Err(RegistryError::NotLatched(name.into())),
            (Written::Stopped, None) => Err(RegistryError::UnknownNode(name.into())),
        }
    }

    /// Writes down how attestations ended; names that are gone are passed over.
    pub async fn saw(&self, nodes: Vec<(String, Seen)>) -> Result<(), RegistryError> {
        let step = |(name, seen): (String, Seen)| {
            Step::may(
                "INSERT INTO seen (node, at, outcome) SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM node WHERE name = $1) \
                 ON CONFLICT (node) DO UPDATE SET at = excluded.at, outcome = excluded.outcome",
                vec![name.into(), seen.at.into(), seen.outcome.into()],
            )
        };
        let _all = self.database.write(nodes.into_iter().map(step).collect()).await?;
        Ok(())
    }
}

fn hold(name: &str, ek: &EnrolledEk) -> Step {
    let params = vec![
        name.into(),
        ek.fingerprint.0.as_slice().into(),
        ek.identity.as_str().into(),
        ek.since.into(),
    ];
    Step::must(HOLD, params)
}

fn words(ek: &EnrolledEk) -> String {
    format!("EK {} ({})", ek.fingerprint, ek.identity)
}

fn taken(name: &str, holder: &EnrolledEk) -> RegistryError {
    RegistryError::NameTaken {
        node: name.into(),
        holder: holder.fingerprint,
    }
}

fn node(row: Row) -> Result<Node, RegistryError> {
    let mut fields = Fields::of(row);
    let (name, roles) = (fields.text()?, fields.text()?);
    let ek = match (fields.maybe_bytes()?, fields.maybe_text()?, fields.maybe_number()?) {
        (Some(ek), Some(identity), Some(since)) => Some(EnrolledEk {
            fingerprint: Fixed::try_from(ek.as_slice()).map_err(|_| RegistryError::Damaged("EK fingerprint"))?,
            identity,
            since,
        }),
        (None, _, None) => None,
        _ => return Err(RegistryError::Damaged("node")),
    };
    let latch = fields.maybe_text()?.zip(fields.maybe_number()?);
    let seen = fields.maybe_number()?.zip(fields.maybe_text()?);
    Ok(Node {
        name,
        roles: roles.split_whitespace().map(str::to_owned).collect(),
        ek,
        latch: latch.map(|(reason, since)| Latch { reason, since }),
        seen: seen.map(|(at, outcome)| Seen { at, outcome }),
    })
}
