//! The registry in PostgreSQL, for several replicas. One session reads (requests are pipelined on it), one writes, and the reading one
//! listens for `NOTIFY rempart`. A session that broke is made again by whoever needs it next.

mod tls;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex as Short, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, GenericClient, NoTls, Row as Found, Socket, Statement};

use super::database::{Database, DatabaseError, Row, Step, Value, Written};
use super::{LAYOUT, schema};

/// For one query or transaction, seconds: a node waits for it.
const PATIENCE: u64 = 5;
/// For making a session.
const CONNECT: Duration = Duration::from_secs(5);
/// The feed is looked at so often even when no notification comes.
const LOOK: Duration = Duration::from_secs(1);

/// Where the database is; judged by the configuration: without TLS only on this machine.
#[derive(Clone)]
pub struct Settings {
    /// Address, user, database, password.
    pub server: Config,
    /// TLS; none only for a loopback address or a socket of this machine.
    pub tls: Option<Arc<ClientConfig>>,
}

/// The registry's database.
pub struct Postgres {
    settings: Settings,
    reader: Mutex<Option<Arc<Session>>>,
    writer: Mutex<Option<Session>>,
    written: Arc<Notify>,
}

struct Session {
    client: Client,
    statements: Statements,
}

/// Prepared once a session.
#[derive(Default)]
struct Statements(Short<HashMap<&'static str, Statement>>);

impl Postgres {
    /// Connects and makes the tables where there are none.
    pub async fn open(settings: Settings) -> Result<Self, DatabaseError> {
        let postgres = Self {
            settings,
            reader: Mutex::default(),
            writer: Mutex::default(),
            written: Arc::default(),
        };
        let session = postgres.connect().await?;
        session.client.batch_execute(schema::POSTGRES).await?;
        let made = session
            .client
            .execute(
                "INSERT INTO rempart_layout SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM rempart_layout)",
                &[&LAYOUT],
            )
            .await?;
        let found: i64 = session
            .client
            .query_one("SELECT max(version) FROM rempart_layout", &[])
            .await?
            .get(0);
        if made == 0 && found != LAYOUT {
            return Err(DatabaseError::Layout { found, known: LAYOUT });
        }
        *postgres.writer.lock().await = Some(session);
        Ok(postgres)
    }

    async fn connect(&self) -> Result<Session, DatabaseError> {
        let mut server = self.settings.server.clone();
        server.application_name("rempart-verifier").connect_timeout(CONNECT);
        server.tcp_user_timeout(CONNECT).keepalives_idle(CONNECT);
        // A statement that hangs in a lock must not hold one of ours for ever.
        server.options(format!("-c statement_timeout={0}s -c lock_timeout={0}s", PATIENCE));
        let client = match &self.settings.tls {
            Some(tls) => {
                server
                    .ssl_mode(SslMode::Require)
                    .channel_binding(ChannelBinding::Prefer);
                self.start(&server, tls::Tls(tls.clone())).await?
            }
            None => {
                server.ssl_mode(SslMode::Disable);
                self.start(&server, NoTls).await?
            }
        };
        Ok(Session {
            client,
            statements: Statements::default(),
        })
    }

    /// Connects, and leaves a task behind that carries the messages and ends with the session.
    async fn start<T>(&self, server: &Config, tls: T) -> Result<Client, DatabaseError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let connecting = timeout(CONNECT, server.connect(tls)).await;
        let (client, mut connection) = connecting.map_err(|_| DatabaseError::Silent(CONNECT.as_secs()))??;
        let written = self.written.clone();
        tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => written.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return tracing::warn!("the registry's connection ended: {error}"),
                    None => return,
                }
            }
        });
        Ok(client)
    }

    async fn reader(&self) -> Result<Arc<Session>, DatabaseError> {
        let mut kept = self.reader.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(self.connect().await?);
        session.client.batch_execute("LISTEN rempart").await?;
        *kept = Some(session.clone());
        Ok(session)
    }
}

impl Statements {
    /// The types are ours to say, so that the server infers nothing.
    async fn prepare(
        &self,
        client: &impl GenericClient,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Statement, DatabaseError> {
        if let Some(statement) = self.lock().get(sql) {
            return Ok(statement.clone());
        }
        let types: Vec<Type> = params.iter().map(Value::postgres_type).collect();
        let statement = client.prepare_typed(sql, &types).await?;
        self.lock().insert(sql, statement.clone());
        Ok(statement)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Database for Postgres {
    async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let read = async {
            let session = self.reader().await?;
            let statement = session.statements.prepare(&session.client, sql, &params).await?;
            let rows = session.client.query(&statement, &Value::all(&params)).await?;
            Ok(rows.iter().map(row).collect())
        };
        within(read).await
    }

    async fn write(&self, steps: Vec<Step>) -> Result<Written, DatabaseError> {
        let write = async {
            let mut kept = self.writer.lock().await;
            // Taken out: a transaction that is given up halfway (a timeout) takes its session with it.
            let mut session = match kept.take().filter(|session| !session.client.is_closed()) {
                Some(session) => session,
                None => self.connect().await?,
            };
            let Session { client, statements } = &mut session;
            let transaction = client.transaction().await?;
            let mut written = Written::All;
            for step in &steps {
                let statement = statements.prepare(&transaction, step.sql, &step.params).await?;
                let changed = transaction.execute(&statement, &Value::all(&step.params)).await?;
                if step.must && changed == 0 {
                    written = Written::Stopped;
                    break;
                }
            }
            match written {
                Written::All => transaction.commit().await?,
                Written::Stopped => transaction.rollback().await?,
            }
            *kept = Some(session);
            Ok(written)
        };
        within(write).await
    }

    async fn changed(&self) {
        // Whether a notification or the time woke us is all the same.
        let _woken = timeout(LOOK, self.written.notified()).await;
    }
}

async fn within<T>(work: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    timeout(Duration::from_secs(PATIENCE), work)
        .await
        .map_err(|_| DatabaseError::Silent(PATIENCE))?
}

fn row(found: &Found) -> Row {
    let field = |at: usize| match *found.columns()[at].type_() {
        Type::INT8 => found.get::<_, Option<i64>>(at).map(Value::Int),
        Type::BYTEA => found.get::<_, Option<Vec<u8>>>(at).map(Value::Bytes),
        Type::TEXT => found.get::<_, Option<String>>(at).map(Value::Text),
        _ => None,
    };
    (0..found.len()).map(|at| field(at).unwrap_or(Value::Null)).collect()
}

impl Value {
    fn postgres_type(&self) -> Type {
        match self {
            Self::Text(_) | Self::Null => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
            Self::Int(_) => Type::INT8,
        }
    }

    fn postgres(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(text) => text,
            Self::Bytes(bytes) => bytes,
            Self::Int(number) => number,
            Self::Null => &None::<String>,
        }
    }

    fn all(params: &[Self]) -> Vec<&(dyn ToSql + Sync)> {
        params.iter().map(Self::postgres).collect()
    }
}
