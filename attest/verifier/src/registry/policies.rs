//! Policies with their signatures: all that ever were in force, the last one is. A counter below the highest, or that of another policy,
//! is refused in the same statement that stores.

use rempart_attest::bytes::sha256;
use rempart_attest::policy::PolicyError;

use super::database::{Step, Written};
use super::history::{note, what};
use super::{Act, Fields, Registry, RegistryError, StoredPolicy};

impl Registry {
    /// The policy in force.
    pub async fn policy(&self) -> Result<Option<StoredPolicy>, RegistryError> {
        let rows = self
            .database
            .read(
                "SELECT text, signatures, signers, since FROM policy ORDER BY id DESC LIMIT 1",
                vec![],
            )
            .await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let mut fields = Fields::of(row);
        Ok(Some(StoredPolicy {
            text: fields.bytes()?,
            signatures: fields.text()?,
            signers: fields.text()?,
            since: fields.number()?,
        }))
    }

    /// Makes a policy the one in force, unless its counter is below the highest that ever was, or was another policy's.
    pub async fn install_policy(
        &self,
        policy: &StoredPolicy,
        counter: u64,
        act: &Act<'_>,
    ) -> Result<(), RegistryError> {
        let detail = format!(
            "counter {counter}, SHA-256 {}, signed by {}",
            sha256(&policy.text),
            policy.signers
        );
        let steps = vec![
            note(act, what::POLICY, "", &detail),
            Step::must(
                "INSERT INTO policy (counter, text, signatures, signers, since) SELECT $1, $2, $3, $4, $5 \
                 WHERE NOT EXISTS (SELECT 1 FROM policy WHERE counter > $1 OR (counter = $1 AND text <> $2))",
                vec![
                    counter.into(),
                    policy.text.as_slice().into(),
                    policy.signatures.as_str().into(),
                    policy.signers.as_str().into(),
                    policy.since.into(),
                ],
            ),
        ];
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => Err(match self.highest_counter().await? {
                highest if highest > counter => RegistryError::Rollback(PolicyError::Rollback {
                    found: counter,
                    highest,
                }),
                _ => RegistryError::CounterUsed(counter),
            }),
        }
    }

    async fn highest_counter(&self) -> Result<u64, RegistryError> {
        let rows = self
            .database
            .read("SELECT COALESCE(max(counter), 0) FROM policy", vec![])
            .await?;
        let row = rows.into_iter().next().ok_or(RegistryError::Damaged("policy"))?;
        Fields::of(row).number()
    }
}
