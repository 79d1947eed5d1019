//! Sealed secrets of the Verifier's own store. The database never sees a value, and the history only names.

use super::database::{Step, Written};
use super::history::{note, what};
use super::{Act, Fields, Registry, RegistryError};

impl Registry {
    /// Stores one sealed value for each role and removes it from all others.
    pub async fn set_secret(
        &self,
        name: &str,
        sealed: &[(String, Vec<u8>)],
        act: &Act<'_>,
    ) -> Result<(), RegistryError> {
        let roles: Vec<&str> = sealed.iter().map(|(role, _)| role.as_str()).collect();
        let mut steps = vec![
            note(act, what::SECRET_SET, "", &format!("{name} for {}", roles.join(", "))),
            Step::may("DELETE FROM secret WHERE name = $1", vec![name.into()]),
        ];
        for (role, value) in sealed {
            steps.push(Step::must(
                "INSERT INTO secret (name, role, sealed) VALUES ($1, $2, $3)",
                vec![name.into(), role.as_str().into(), value.as_slice().into()],
            ));
        }
        let _all = self.database.write(steps).await?;
        Ok(())
    }

    /// The sealed value for a role.
    pub async fn secret(&self, name: &str, role: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let rows = self
            .database
            .read(
                "SELECT sealed FROM secret WHERE name = $1 AND role = $2",
                vec![name.into(), role.into()],
            )
            .await?;
        rows.into_iter().next().map(|row| Fields::of(row).bytes()).transpose()
    }

    /// Names and roles.
    pub async fn secrets(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let rows = self
            .database
            .read("SELECT name, role FROM secret ORDER BY name, role", vec![])
            .await?;
        rows.into_iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok((fields.text()?, fields.text()?))
            })
            .collect()
    }

    /// Removes a secret for all roles.
    pub async fn remove_secret(&self, name: &str, act: &Act<'_>) -> Result<(), RegistryError> {
        let steps = vec![
            note(act, what::SECRET_REMOVED, "", name),
            Step::must("DELETE FROM secret WHERE name = $1", vec![name.into()]),
        ];
        match self.database.write(steps).await? {
            Written::All => Ok(()),
            Written::Stopped => Err(RegistryError::UnknownSecret(name.into())),
        }
    }
}
