//! The registry in one SQLite file, shared by the running server and an operator's commands on the same machine.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, TransactionBehavior, params_from_iter};

use super::database::{Database, DatabaseError, Row, Step, Value, Written};
use super::{LAYOUT, schema};

/// How long one writer waits for another.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often other processes' writes are looked for: one read of the file's shared header.
const LOOK: Duration = Duration::from_millis(100);

/// The registry's file. Readers do not wait for the writer (WAL).
pub struct Sqlite {
    reader: Shared,
    writer: Shared,
    watcher: Shared,
}

type Shared = Arc<Mutex<Connection>>;

impl Sqlite {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let open = || -> Result<Shared, DatabaseError> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            Ok(Arc::new(Mutex::new(connection)))
        };
        let writer = open()?;
        prepare(&mut lock(&writer))?;
        Ok(Self {
            reader: open()?,
            watcher: open()?,
            writer,
        })
    }
}

fn prepare(connection: &mut Connection) -> Result<(), DatabaseError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (known, tables) {
        (LAYOUT, _) => return Ok(()),
        (0, 0) => transaction.execute_batch(schema::SQLITE)?,
        (found, _) => return Err(DatabaseError::Layout { found, known: LAYOUT }),
    }
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    Ok(transaction.commit()?)
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Connection> {
    // A panic while holding the lock leaves no half-done transaction: dropping one rolls back.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite waits in system calls, so it runs beside the event loop.
async fn blocking<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, DatabaseError> {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || work(&mut lock(&shared)))
        .await
        .map_err(|_| DatabaseError::Thread)?
}

#[async_trait]
impl Database for Sqlite {
    async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        blocking(&self.reader, move |connection| {
            let mut query = connection.prepare_cached(&dialect(sql))?;
            let width = query.column_count();
            let rows = query.query_map(params_from_iter(params), |row| {
                (0..width).map(|at| row.get_ref(at).map(value)).collect()
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn write(&self, steps: Vec<Step>) -> Result<Written, DatabaseError> {
        blocking(&self.writer, move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for step in steps {
                let changed = transaction
                    .prepare_cached(&dialect(step.sql))?
                    .execute(params_from_iter(step.params))?;
                if step.must && changed == 0 {
                    return Ok(Written::Stopped);
                }
            }
            transaction.commit()?;
            Ok(Written::All)
        })
        .await
    }

    async fn changed(&self) {
        let version = |connection: &mut Connection| {
            Ok(connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0))?)
        };
        let before = blocking(&self.watcher, version).await.ok();
        for _ in 0..10 {
            tokio::time::sleep(LOOK).await;
            let now = blocking(&self.watcher, version).await.ok();
            if now.is_none() || now != before {
                return;
            }
        }
    }
}

/// SQLite numbers `?1` and names `$1`.
fn dialect(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(field: ValueRef<'_>) -> Value {
    match field {
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Null => ValueRef::Null,
        }))
    }
}
