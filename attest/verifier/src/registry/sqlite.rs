//! The registry in one SQLite file, shared by the running server and the commands of an operator.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rempart_attest::Fixed;
use rempart_attest::policy::PolicyError;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{EnrolledEk, Node, Registry, RegistryError, StoredPolicy};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS node (name TEXT PRIMARY KEY, ek BLOB, ek_identity TEXT, ek_since INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS role (node TEXT NOT NULL REFERENCES node(name) ON DELETE CASCADE, role TEXT NOT NULL, PRIMARY KEY (node, role)) STRICT;
CREATE TABLE IF NOT EXISTS policy (one INTEGER PRIMARY KEY CHECK (one = 1), text BLOB NOT NULL, signer TEXT NOT NULL, since INTEGER NOT NULL, highest INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS secret (name TEXT NOT NULL, role TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (name, role)) STRICT;
";
/// How long a command waits for the server's lock or the other way round.
const PATIENCE: Duration = Duration::from_secs(5);

/// The registry in one file.
pub struct Sqlite(Mutex<Connection>);

impl Sqlite {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        Self::prepare(Connection::open(path)?)
    }

    fn prepare(connection: Connection) -> Result<Self, RegistryError> {
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Mutex::new(connection)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock leaves no half-done transaction: dropping one rolls back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn roles(connection: &Connection, node: &str) -> Result<Vec<String>, RegistryError> {
    let mut query = connection.prepare_cached("SELECT role FROM role WHERE node = ?1 ORDER BY role")?;
    Ok(query.query_map([node], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

type Columns = (String, Option<Vec<u8>>, Option<String>, Option<u64>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn node_of(connection: &Connection, (name, ek, identity, since): Columns) -> Result<Node, RegistryError> {
    let ek = match (ek, identity, since) {
        (Some(ek), Some(identity), Some(since)) => {
            let fingerprint = Fixed::try_from(ek.as_slice()).map_err(|_| RegistryError::Damaged("EK fingerprint"))?;
            Some(EnrolledEk {
                fingerprint,
                identity,
                since,
            })
        }
        (None, None, None) => None,
        _ => return Err(RegistryError::Damaged("node")),
    };
    let roles = roles(connection, &name)?;
    Ok(Node { name, roles, ek })
}

impl Registry for Sqlite {
    fn node(&self, name: &str) -> Result<Option<Node>, RegistryError> {
        let connection = self.lock();
        let mut query =
            connection.prepare_cached("SELECT name, ek, ek_identity, ek_since FROM node WHERE name = ?1")?;
        let found = query.query_row([name], columns).optional()?;
        found.map(|row| node_of(&connection, row)).transpose()
    }

    fn nodes(&self) -> Result<Vec<Node>, RegistryError> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT name, ek, ek_identity, ek_since FROM node ORDER BY name")?;
        let rows: Vec<Columns> = query.query_map([], columns)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(|row| node_of(&connection, row)).collect()
    }

    fn add_node(&self, name: &str, roles: &[String]) -> Result<(), RegistryError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("INSERT INTO node (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
        transaction.execute("DELETE FROM role WHERE node = ?1", [name])?;
        for role in roles {
            transaction.execute(
                "INSERT INTO role (node, role) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [name, role],
            )?;
        }
        Ok(transaction.commit()?)
    }

    fn remove_node(&self, name: &str) -> Result<(), RegistryError> {
        match self.lock().execute("DELETE FROM node WHERE name = ?1", [name])? {
            0 => Err(RegistryError::UnknownNode(name.into())),
            _ => Ok(()),
        }
    }

    fn bind_ek(&self, name: &str, ek: &EnrolledEk) -> Result<(), RegistryError> {
        let bound = self.lock().execute(
            "UPDATE node SET ek = ?2, ek_identity = ?3, ek_since = ?4 WHERE name = ?1 AND ek IS NULL",
            params![name, ek.fingerprint.0.as_slice(), ek.identity, ek.since],
        )?;
        if bound == 1 {
            return Ok(());
        }
        match self.node(name)? {
            None => Err(RegistryError::UnknownNode(name.into())),
            Some(Node { ek: Some(holder), .. }) if holder.fingerprint == ek.fingerprint => Ok(()),
            Some(Node { ek: Some(holder), .. }) => Err(RegistryError::NameTaken {
                node: name.into(),
                holder: holder.fingerprint,
            }),
            Some(Node { ek: None, .. }) => Err(RegistryError::Damaged("node")),
        }
    }

    fn policy(&self) -> Result<Option<StoredPolicy>, RegistryError> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT text, signer, since FROM policy")?;
        let read = |row: &Row<'_>| {
            Ok(StoredPolicy {
                text: row.get(0)?,
                signer: row.get(1)?,
                since: row.get(2)?,
            })
        };
        Ok(query.query_row([], read).optional()?)
    }

    fn install_policy(&self, policy: &StoredPolicy, counter: u64) -> Result<(), RegistryError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let highest: Option<u64> = transaction
            .query_row("SELECT highest FROM policy", [], |row| row.get(0))
            .optional()?;
        if let Some(highest) = highest.filter(|highest| counter < *highest) {
            return Err(RegistryError::Rollback(PolicyError::Rollback {
                found: counter,
                highest,
            }));
        }
        transaction.execute(
            "INSERT INTO policy (one, text, signer, since, highest) VALUES (1, ?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET text = ?1, signer = ?2, since = ?3, highest = ?4",
            params![policy.text, policy.signer, policy.since, counter],
        )?;
        Ok(transaction.commit()?)
    }

    fn set_secret(&self, name: &str, sealed: &[(String, Vec<u8>)]) -> Result<(), RegistryError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM secret WHERE name = ?1", [name])?;
        for (role, value) in sealed {
            transaction.execute(
                "INSERT INTO secret (name, role, sealed) VALUES (?1, ?2, ?3)",
                params![name, role, value],
            )?;
        }
        Ok(transaction.commit()?)
    }

    fn secret(&self, name: &str, role: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT sealed FROM secret WHERE name = ?1 AND role = ?2")?;
        Ok(query.query_row([name, role], |row| row.get(0)).optional()?)
    }

    fn secrets(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT name, role FROM secret ORDER BY name, role")?;
        Ok(query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?)
    }

    fn remove_secret(&self, name: &str) -> Result<(), RegistryError> {
        match self.lock().execute("DELETE FROM secret WHERE name = ?1", [name])? {
            0 => Err(RegistryError::UnknownSecret(name.into())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Sqlite {
        Sqlite::prepare(Connection::open_in_memory().expect("memory")).expect("schema")
    }

    fn ek(byte: u8) -> EnrolledEk {
        EnrolledEk {
            fingerprint: Fixed([byte; 32]),
            identity: "certified".into(),
            since: 5,
        }
    }

    #[test]
    fn the_first_tpm_keeps_a_name() {
        let registry = registry();
        assert!(matches!(
            registry.bind_ek("n", &ek(1)),
            Err(RegistryError::UnknownNode(_))
        ));
        registry.add_node("n", &["web".into()]).expect("added");
        registry.bind_ek("n", &ek(1)).expect("bound");
        registry.bind_ek("n", &ek(1)).expect("the same one again");
        assert!(matches!(
            registry.bind_ek("n", &ek(2)),
            Err(RegistryError::NameTaken { .. })
        ));
        assert_eq!(registry.node("n").expect("reads").expect("is there").ek, Some(ek(1)));
    }

    #[test]
    fn adding_again_changes_roles_and_keeps_the_tpm() {
        let registry = registry();
        registry
            .add_node("n", &["web".into(), "billing".into()])
            .expect("added");
        registry.bind_ek("n", &ek(1)).expect("bound");
        registry.add_node("n", &["web".into()]).expect("changed");
        let node = registry.node("n").expect("reads").expect("is there");
        assert_eq!((node.roles, node.ek), (vec!["web".into()], Some(ek(1))));
        registry.remove_node("n").expect("removed");
        assert_eq!(registry.node("n").expect("reads"), None);
        assert!(registry.remove_node("n").is_err());
    }

    #[test]
    fn a_policy_below_the_highest_counter_is_refused() {
        let registry = registry();
        let policy = |text: &str| StoredPolicy {
            text: text.into(),
            signer: "s".into(),
            since: 1,
        };
        assert_eq!(registry.policy().expect("reads"), None);
        registry.install_policy(&policy("three"), 3).expect("installed");
        registry
            .install_policy(&policy("three again"), 3)
            .expect("the same counter");
        assert!(matches!(
            registry.install_policy(&policy("two"), 2),
            Err(RegistryError::Rollback(_))
        ));
        assert_eq!(registry.policy().expect("reads"), Some(policy("three again")));
    }

    #[test]
    fn a_secret_belongs_to_its_roles_only() {
        let registry = registry();
        registry
            .set_secret("s", &[("a".into(), vec![1]), ("b".into(), vec![2])])
            .expect("set");
        assert_eq!(registry.secret("s", "a").expect("reads"), Some(vec![1]));
        assert_eq!(registry.secret("s", "c").expect("reads"), None);
        registry.set_secret("s", &[("b".into(), vec![3])]).expect("set");
        assert_eq!(
            registry.secret("s", "a").expect("reads"),
            None,
            "a role that was left out loses it"
        );
        registry.remove_secret("s").expect("removed");
        assert!(registry.secrets().expect("reads").is_empty());
    }
}
