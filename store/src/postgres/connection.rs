//! One session with PostgreSQL: its prepared statements, its time limits, and whether it is still clean.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_pg::{Stream, Url, place};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, join_all, poll_immediate, ready};
use lru::LruCache;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row, RowStream};
use tokio_util::task::AbortOnDropHandle;

use super::error::{Failure, NoSession, OpenError, TimedOut, spoils_session};
use super::settings::Settings;
use super::statement::{Key, Statement};

/// Prepared statements that a session keeps. Each costs PostgreSQL some 50 kB.
const PREPARED: NonZeroUsize = NonZeroUsize::new(100).expect("it is not 0");
/// A session is closed after this number of preparations, because PostgreSQL keeps some 300 kB for each log that a
/// session has appended to, and never gives them back.
const PREPARATIONS: usize = 250;
/// How much longer than PostgreSQL's own time limit a statement is waited for.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long the end of a statement that was given up is waited for. To open another session takes about as long.
const SETTLING: Duration = Duration::from_millis(20);

/// A session with PostgreSQL.
#[derive(Debug)]
pub(super) struct Connection {
    client: Arc<Client>,
    prepare: bool,
    prepared: LruCache<Key, tokio_postgres::Statement>,
    preparations: usize,
    limit: Duration,
    state: State,
    /// Statements that were sent by [`Connection::send_one`] and whose end was not seen.
    sent: Arc<AtomicUsize>,
    _driver: AbortOnDropHandle<()>,
}

/// Whether a session can serve another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// A statement outside a transaction was sent, and its end not seen.
    Busy,
    /// A transaction is open, or an answer leaves in doubt what holds in the session.
    Spoilt,
}

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Connection {
    /// Opens a session with the first host that has one.
    ///
    /// # Errors
    /// The error of the last host.
    pub(super) async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let (client, driver) = connect(&settings.url, settings.connect_timeout, |connection| async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        })
        .await?;
        let connection = Self {
            client: Arc::new(client),
            prepare: settings.prepare,
            prepared: LruCache::new(PREPARED),
            preparations: 0,
            limit: settings.statement_timeout,
            state: State::Ready,
            sent: Arc::default(),
            _driver: driver,
        };
        if settings.prepare {
            let session = session_text(settings.statement_timeout);
            let begun = timeout(settings.connect_timeout, connection.client.batch_execute(&session)).await;
            begun.map_err(|_| OpenError::other(TimedOut("begin a session")))?.map_err(OpenError::of_statement)?;
        }
        Ok(connection)
    }

    /// Whether it can serve another call.
    pub(super) fn is_clean(&self) -> bool {
        self.state == State::Ready
            && self.sent.load(Ordering::SeqCst) == 0
            && !self.client.is_closed()
            && self.preparations < PREPARATIONS
    }

    /// Makes a session ready again whose caller gave a statement up. PostgreSQL goes on with the statement, and most end
    /// sooner than another session could be opened. If it does not end within [`SETTLING`], the session stays as it is,
    /// and the pool closes it. A session within a transaction also stays as it is.
    pub(super) async fn settle(&mut self) {
        // PostgreSQL answers in the order of what it was sent, so this answer comes behind that of the statement.
        if self.state == State::Busy
            && let Ok(Ok(())) = timeout(SETTLING, self.client.batch_execute("")).await
        {
            self.state = State::Ready;
        }
    }

    /// How long a statement may run.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Lets the session end when it is given back.
    pub(super) fn retire(&mut self) {
        self.state = State::Spoilt;
    }

    /// Notes that a statement is sent, and returns the state before it for [`Connection::leave`].
    fn enter(&mut self) -> State {
        let before = self.state;
        if before == State::Ready {
            self.state = State::Busy;
        }
        before
    }

    /// Notes whether the end of a statement was seen.
    fn leave(&mut self, before: State, is_end_seen: bool) {
        self.state = if is_end_seen { before } else { State::Spoilt };
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(
        &mut self,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        self.query_within(self.limit, statement, parameters).await
    }

    /// Runs a statement that may take longer than others, up to `limit`.
    pub(super) async fn query_within(
        &mut self,
        limit: Duration,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        self.for_each_within(limit, statement, parameters, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs a statement of at most one row.
    pub(super) async fn query_one(
        &mut self,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(statement, parameters).await?.pop())
    }

    /// Runs a statement and hands each row on as it comes. Returns once PostgreSQL is ready for the next statement; if
    /// this one is not part of a transaction, it is committed by then.
    pub(super) async fn for_each(
        &mut self,
        statement: Statement,
        parameters: Parameters<'_>,
        each: impl FnMut(Row),
    ) -> Result<(), Failure> {
        self.for_each_within(self.limit, statement, parameters, each).await
    }

    async fn for_each_within(
        &mut self,
        limit: Duration,
        statement: Statement,
        parameters: Parameters<'_>,
        each: impl FnMut(Row),
    ) -> Result<(), Failure> {
        self.check_open()?;
        let before = self.enter();
        let outcome = self.run(limit, statement, parameters, each).await;
        self.leave(before, is_end_seen(&outcome));
        outcome
    }

    /// Sends a statement of at most one row, and returns a future of its answer. Another may be sent behind it, which
    /// PostgreSQL runs after it.
    pub(super) async fn send_one<'a>(
        &mut self,
        statement: Statement,
        parameters: Parameters<'a>,
    ) -> Result<BoxFuture<'a, Result<Option<Row>, Failure>>, Failure> {
        self.check_open()?;
        let call = self.call(self.limit, statement).await?;
        let (client, sent, limit) = (Arc::clone(&self.client), Arc::clone(&self.sent), self.limit + GRACE);
        sent.fetch_add(1, Ordering::SeqCst);
        let mut answer = async move {
            let mut last = None;
            let rows = async { drain(call.rows(&client, parameters).await?, &mut |row| last = Some(row)).await };
            let outcome = within(limit, rows).await;
            if is_end_seen(&outcome) {
                sent.fetch_sub(1, Ordering::SeqCst);
            }
            outcome.map(|()| last)
        }
        .boxed();
        // A future does nothing before it is polled: this sends it.
        Ok(match poll_immediate(&mut answer).await {
            Some(outcome) => ready(outcome).boxed(),
            None => answer,
        })
    }

    /// Runs fixed text that returns nothing and may take as long as `limit`.
    pub(super) async fn execute(&mut self, text: &str, limit: Duration) -> Result<(), Failure> {
        let before = self.enter();
        let outcome = within(limit + GRACE, self.client.batch_execute(text)).await;
        self.leave(before, outcome.is_ok());
        outcome
    }

    /// Runs fixed text that returns nothing, within the usual limit.
    pub(super) async fn batch(&mut self, text: &str) -> Result<(), Failure> {
        self.execute(text, self.limit).await
    }

    /// Runs texts of at most one row each that are made for this once. They are sent together, and each is a transaction
    /// of its own. The inner errors are PostgreSQL's answers.
    pub(super) async fn query_each(&mut self, texts: &[String]) -> Result<Vec<Result<Option<Row>, Failure>>, Failure> {
        let before = self.enter();
        let query = async |text: &String| {
            let none: [(bool, Type); 0] = [];
            let mut last = None;
            let rows =
                async { drain(self.client.query_typed_raw(text, none).await?, &mut |row| last = Some(row)).await };
            within(self.limit + GRACE, rows).await.map(|()| last)
        };
        let outcomes = join_all(texts.iter().map(query)).await;
        self.leave(before, outcomes.iter().all(is_end_seen));
        let answer = |outcome| match outcome {
            Err(failure @ (Failure::NotSent(_) | Failure::Open(_))) => Err(failure),
            answer => Ok(answer),
        };
        outcomes.into_iter().map(answer).collect()
    }

    /// Runs one statement of fixed text that returns nothing and may take as long as `limit`. PostgreSQL refuses a text
    /// of several.
    pub(super) async fn execute_one(&mut self, text: &str, limit: Duration) -> Result<(), Failure> {
        self.for_each_of_texts_within(limit, &[text.to_owned()], |_| {}).await
    }

    /// Runs statements that are made for this once, without waiting for one before the next is sent, and hands each row
    /// on as it comes.
    pub(super) async fn for_each_of_texts(&mut self, texts: &[String], each: impl FnMut(Row)) -> Result<(), Failure> {
        self.for_each_of_texts_within(self.limit, texts, each).await
    }

    async fn for_each_of_texts_within(
        &mut self,
        limit: Duration,
        texts: &[String],
        mut each: impl FnMut(Row),
    ) -> Result<(), Failure> {
        let before = self.enter();
        let none: [(bool, Type); 0] = [];
        let rows = async {
            let sent = texts.iter().map(|text| self.client.query_typed_raw(text, none.iter().cloned()));
            for rows in join_all(sent).await {
                drain(rows?, &mut each).await?;
            }
            Ok(())
        };
        let outcome = within(limit + GRACE, rows).await;
        self.leave(before, outcome.is_ok());
        outcome
    }

    /// Begins a transaction. If the session is given back before [`Connection::commit`] has returned, it is closed,
    /// which undoes the transaction.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.state = State::Spoilt;
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED", self.limit).await
    }

    /// The same, with a commit that is at least synchronous, whatever the role or a pooler's session says.
    pub(super) async fn begin_synchronous(&mut self) -> Result<(), Failure> {
        let text = concat!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT ", include_str!("sql/synchronous.sql"));
        self.state = State::Spoilt;
        self.execute(text, self.limit).await
    }

    /// Commits the transaction.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.state = State::Ready;
        self.execute("COMMIT", self.limit).await
    }

    /// Undoes the transaction after PostgreSQL has refused one of its statements.
    pub(super) async fn rollback(&mut self) -> Result<(), Failure> {
        self.state = State::Ready;
        self.execute("ROLLBACK", self.limit).await
    }

    async fn run(
        &mut self,
        limit: Duration,
        statement: Statement,
        parameters: Parameters<'_>,
        mut each: impl FnMut(Row),
    ) -> Result<(), Failure> {
        let call = self.call(limit, statement).await?;
        let rows = async { drain(call.rows(&self.client, parameters).await?, &mut each).await };
        within(limit + GRACE, rows).await
    }

    fn check_open(&self) -> Result<(), Failure> {
        if self.client.is_closed() {
            return Err(Failure::NotSent(Arc::new(io::Error::from(io::ErrorKind::NotConnected))));
        }
        Ok(())
    }

    /// How to call a statement here; prepares it if it has to be and is not.
    async fn call(&mut self, limit: Duration, statement: Statement) -> Result<Call, Failure> {
        if !self.prepare {
            return Ok(Call::Text(statement.text(), statement.template.types));
        }
        match self.prepared.get(&statement.key()) {
            Some(prepared) => Ok(Call::Prepared(prepared.clone())),
            None => Ok(Call::Prepared(self.prepare(limit, statement).await?)),
        }
    }

    async fn prepare(&mut self, limit: Duration, statement: Statement) -> Result<tokio_postgres::Statement, Failure> {
        let text = statement.text();
        // Counted first: a caller that gives up leaves it to PostgreSQL all the same.
        self.preparations += 1;
        let prepared = timeout(limit + GRACE, self.client.prepare_typed(&text, statement.template.types))
            .await
            .map_err(|_| Failure::NotSent(Arc::new(TimedOut("prepare a statement"))))?
            .map_err(Failure::of_harmless)?;
        self.prepared.put(statement.key(), prepared.clone());
        Ok(prepared)
    }
}

/// How a statement is called.
enum Call {
    Prepared(tokio_postgres::Statement),
    Text(String, &'static [Type]),
}

impl Call {
    async fn rows(&self, client: &Client, parameters: Parameters<'_>) -> Result<RowStream, tokio_postgres::Error> {
        match self {
            Self::Prepared(prepared) => client.query_raw(prepared, parameters.iter().copied()).await,
            Self::Text(text, types) => {
                client.query_typed_raw(text, parameters.iter().copied().zip(types.iter().cloned())).await
            }
        }
    }
}

/// Whether the session can go on after this outcome of a statement.
fn is_end_seen<T>(outcome: &Result<T, Failure>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(failure) => failure.state().is_some_and(|state| !spoils_session(state)),
    }
}

async fn drain(rows: RowStream, each: &mut impl FnMut(Row)) -> Result<(), tokio_postgres::Error> {
    let mut rows = pin!(rows);
    while let Some(row) = rows.next().await {
        each(row?);
    }
    Ok(())
}

async fn within<T>(
    limit: Duration,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, statement).await {
        Ok(outcome) => outcome.map_err(Failure::of_sent),
        Err(_) => Err(Failure::Open(Arc::new(TimedOut("answer")))),
    }
}

pub(super) fn session_text(limit: Duration) -> String {
    // The limits come from the settings, never from a request.
    include_str!("sql/session.sql")
        .replace("{statement_timeout_ms}", &limit.as_millis().to_string())
        .replace("{idle_in_transaction_ms}", &(2 * limit).as_millis().to_string())
}

/// A connection without a session, driven by `drive`, with the first host that accepts one.
pub(super) async fn connect<F>(
    url: &Url,
    limit: Duration,
    drive: impl Fn(tokio_postgres::Connection<tokio_postgres::Socket, Stream<tokio_postgres::Socket>>) -> F,
) -> Result<(Client, AbortOnDropHandle<()>), OpenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut last = None;
    for host in url.hosts() {
        let mut host = host.clone();
        host.connect_timeout(limit).tcp_user_timeout(2 * limit);
        match timeout(limit, host.connect(url.tls().clone())).await {
            Ok(Ok((client, connection))) => {
                return Ok((client, AbortOnDropHandle::new(tokio::spawn(drive(connection)))));
            }
            Ok(Err(error)) => last = Some(explain(&host, error)),
            Err(_) => {
                last = Some(OpenError::Unreachable {
                    place: place(&host),
                    cause: io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
                });
            }
        }
    }
    Err(last.expect("a URL has at least one host"))
}

/// Why there is no connection, in a line that tells the operator what to do about it.
fn explain(host: &Config, error: tokio_postgres::Error) -> OpenError {
    let place = place(host);
    if let Some(refusal) = error.as_db_error() {
        return match refusal.code().code() {
            "28P01" | "28000" => OpenError::Refused { place, user: host.get_user().unwrap_or_default().to_owned() },
            "3D000" => {
                let database = host.get_dbname().or(host.get_user()).unwrap_or_default().to_owned();
                OpenError::MissingDatabase { place, database }
            }
            "53300" => OpenError::NoSlot { place },
            _ => OpenError::of_refusal(refusal),
        };
    }
    let source = std::error::Error::source(&error);
    let Some(cause) = source.and_then(|source| source.downcast_ref::<io::Error>()) else {
        return OpenError::other(NoSession { place, cause: error });
    };
    let is_tls = cause.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>());
    // The driver keeps its own.
    let cause = io::Error::new(cause.kind(), cause.to_string());
    if is_tls { OpenError::Tls { place, cause } } else { OpenError::Unreachable { place, cause } }
}
