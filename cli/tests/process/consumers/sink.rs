//! Where handlers write: it takes a message of a stream only under an epoch that is not older than the one before, and
//! notes the order in which messages came.

use std::collections::HashMap;
use std::sync::Arc;

use eventodb_client::group::{Epoch, partition_of};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What a handler writes: a line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The process.
    pub(super) member: usize,
    pub(super) epoch: Epoch,
    pub(super) stream: String,
    /// The place of the message in its stream, from 0.
    pub(super) number: i64,
}

/// The sink, on a port of this process.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) address: String,
    taken: Arc<Mutex<Taken>>,
}

/// What came.
#[derive(Default)]
pub(super) struct Taken {
    /// By stream, in the order in which they came: the epoch and the number of each message.
    pub(super) streams: HashMap<String, Vec<(Epoch, i64)>>,
    /// Lines under an older epoch than one before.
    pub(super) refused: Vec<Line>,
    /// How many were taken.
    pub(super) count: usize,
    /// What must not happen.
    pub(super) broken: Vec<String>,
    /// When which member handled a message of which partition, if the number of partitions is known.
    pub(super) moments: Vec<Moment>,
    partitions: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) member: usize,
    pub(super) partition: u32,
}

impl Sink {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let sink = Self { address, taken: Arc::default() };
        let accepting = sink.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let sink = accepting.clone();
                // The connection of a killed process ends with an error.
                tokio::spawn(async move { sink.serve(connection).await.ok() });
            }
        });
        sink
    }

    /// A sink that notes the moments of a group with this many partitions.
    pub(super) async fn timed(partitions: u32) -> Self {
        let sink = Self::start().await;
        sink.taken.lock().partitions = partitions;
        sink
    }

    async fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = connection.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            let line: Line = serde_json::from_str(&line)?;
            let answer = if self.taken.lock().take(line) { "taken\n" } else { "refused\n" };
            write.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// What came so far.
    pub(super) fn taken(&self) -> parking_lot::MutexGuard<'_, Taken> {
        self.taken.lock()
    }

    /// All that came. What comes later begins anew.
    pub(super) fn take_all(&self) -> Taken {
        std::mem::take(&mut *self.taken())
    }

    /// How many messages were taken.
    pub(super) fn count(&self) -> usize {
        self.taken().count
    }
}

impl Taken {
    fn take(&mut self, line: Line) -> bool {
        let came = self.streams.entry(line.stream.clone()).or_default();
        let last = came.last().copied();
        if last.is_some_and(|(epoch, _)| line.epoch < epoch) {
            self.refused.push(line);
            return false;
        }
        let next = last.map_or(0, |(_, number)| number + 1);
        let is_same_owner = last.is_some_and(|(epoch, _)| line.epoch == epoch);
        // A new owner may repeat what its predecessor handled after its last checkpoint, and goes on without a gap. One
        // and the same owner repeats nothing.
        let is_in_order = if is_same_owner { line.number == next } else { line.number <= next };
        if !is_in_order {
            self.broken.push(format!("{line:?} comes after {came:?}"));
        }
        came.push((line.epoch, line.number));
        if self.partitions > 0 {
            let partition = partition_of(&line.stream, self.partitions);
            self.moments.push(Moment { at: Instant::now(), member: line.member, partition });
        }
        self.count += 1;
        true
    }
}

/// The way of a member to the sink.
pub(super) struct Mouth {
    connection: tokio::sync::Mutex<BufReader<TcpStream>>,
}

impl Mouth {
    pub(super) async fn open(address: &str) -> std::io::Result<Self> {
        Ok(Self { connection: tokio::sync::Mutex::new(BufReader::new(TcpStream::connect(address).await?)) })
    }

    /// Writes a line. Returns whether it was taken.
    pub(super) async fn write(&self, line: &Line) -> std::io::Result<bool> {
        let mut connection = self.connection.lock().await;
        connection.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes()).await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        match answer.trim_end() {
            "taken" => Ok(true),
            "refused" => Ok(false),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What the sink says of the messages of one stream, of which each has an epoch and a number: how many it refuses, and
/// whether something is broken.
fn judged(lines: &[(i64, i64)]) -> (usize, bool) {
    let mut taken = Taken::default();
    for (epoch, number) in lines {
        let epoch = Epoch::from_number(*epoch);
        taken.take(Line { member: 0, epoch, stream: "counted-1".to_owned(), number: *number });
    }
    (taken.refused.len(), !taken.broken.is_empty())
}

#[test]
fn the_sink_sees_what_a_broken_store_would_do() {
    let good: [&[(i64, i64)]; 3] = [
        &[(1, 0), (1, 1), (1, 2)],
        // A new owner goes on, and repeats what was not checkpointed.
        &[(1, 0), (1, 1), (2, 2), (5, 1), (5, 2), (5, 3)],
        // The group was reset.
        &[(1, 0), (1, 1), (2, 0)],
    ];
    for lines in good {
        assert_eq!(judged(lines), (0, false), "{lines:?}");
    }
    let late: &[(i64, i64)] = &[(1, 0), (2, 1), (1, 1), (2, 2)];
    assert_eq!(judged(late), (1, false), "a former owner is refused, and nothing of it is noted");
    let bad: [&[(i64, i64)]; 4] = [
        // Something is passed over: at the beginning, by one owner, and where it changes.
        &[(1, 1)],
        &[(1, 0), (1, 2)],
        &[(1, 0), (2, 2)],
        // An owner repeats what it has handled.
        &[(1, 0), (1, 1), (1, 1)],
    ];
    for lines in bad {
        assert_eq!(judged(lines), (0, true), "{lines:?}");
    }
}
