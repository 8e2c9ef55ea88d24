//! What a log does in memory between a commit and the bytes of a poke: looking into the tail, finding who waits, and
//! handing one message to many.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eventodb_protocol::{Direction, Filter, Message, Scope, Timestamp, Token};
use eventodb_store::log::parts::{TailPart, TopicsPart, publish};
use eventodb_store::log::{Event, Start, Subscribe};
use eventodb_store::model::{Axis, Columns, NewNamespace, Select};
use eventodb_store::sqlite::{Location, Settings as SqliteSettings, Sqlite};
use eventodb_store::{Entry, EventStore, Log, Settings};
use tokio::task::LocalSet;
use uuid::Uuid;

const STREAMS: i64 = 5_000;
const CATEGORIES: i64 = 100;
const SUBSCRIBERS: i64 = 1_000;

/// The message at a global position, as a write of the bench tool makes it.
fn entry(global_position: i64) -> Arc<Entry> {
    let stream = global_position % STREAMS;
    let message = Message {
        id: Uuid::from_u128(global_position as u128),
        stream: format!("{}-{stream:08}", category(stream)).into(),
        kind: "Deposited".into(),
        position: global_position / STREAMS,
        global_position,
        data: r#"{"amount":1234,"note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#.into(),
        metadata: None,
        time: Timestamp::from_micros(global_position),
    };
    let starts_stream = message.position == 0;
    Arc::new(Entry::new(message, starts_stream))
}

fn category(number: i64) -> String {
    format!("account{:04}", number % CATEGORIES)
}

fn in_category(number: i64) -> Scope {
    Scope::Categories(vec![category(number).into()])
}

/// The newest 100 messages of a scope.
fn newest(scope: Scope, head: i64) -> Select {
    Select {
        filter: Arc::new(Filter::new(scope)),
        axis: Axis::Global,
        from: head,
        to: 1,
        head,
        direction: Direction::Backward,
        rows: 100,
        bytes: usize::MAX,
        columns: Columns::All,
    }
}

fn tail(criterion: &mut Criterion) {
    let head = Settings::default().tail_messages as i64;
    let entries: Vec<Arc<Entry>> = (1..=head).map(entry).collect();
    let tail = TailPart::new(&entries);
    let stream = entries[entries.len() / 2].message().stream.clone();
    let mut bench = criterion.benchmark_group("tail");
    bench.bench_function("version of a stream", |bencher| bencher.iter(|| tail.version(black_box(&stream))));
    for (name, scope) in [
        ("100 of a category", in_category(7)),
        ("all of a stream", Scope::Stream(stream.clone())),
        ("100 of everything", Scope::All),
    ] {
        let select = newest(scope, head);
        bench.bench_function(name, |bencher| {
            bencher.iter(|| tail.read(black_box(&select)).expect("all of it is there"))
        });
    }
    bench.finish();
}

fn routing(criterion: &mut Criterion) {
    let topics = TopicsPart::new((0..SUBSCRIBERS).map(in_category));
    let mut bench = criterion.benchmark_group("routing to 1,000 subscribers in 100 categories");
    for count in [1, 32] {
        let entries: Vec<Arc<Entry>> = (1..=count).map(entry).collect();
        bench.throughput(Throughput::Elements(entries.len() as u64));
        bench.bench_function(format!("commits of {count}"), |bencher| {
            bencher.iter(|| topics.publish(black_box(&entries)))
        });
    }
    bench.finish();
}

fn fan_out(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let tasks = LocalSet::new();
    let log = tasks.block_on(&runtime, open());
    let poked = Rc::new(Cell::new(0));
    for _ in 0..SUBSCRIBERS {
        tasks.spawn_local(listen(Arc::clone(&log), Rc::clone(&poked)));
    }
    let (mut position, mut wanted) = (0, SUBSCRIBERS);
    // Each tells first that it has caught up.
    tasks.block_on(&runtime, reached(&poked, wanted));
    let mut bench = criterion.benchmark_group("fan-out");
    bench.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    bench.bench_function("one poke to 1,000 subscribers of a category", |bencher| {
        bencher.iter(|| {
            position += STREAMS;
            wanted += SUBSCRIBERS;
            publish(&log, &[entry(position)]);
            tasks.block_on(&runtime, reached(&poked, wanted));
        });
    });
    bench.finish();
}

async fn open() -> Arc<Log> {
    let backend = Sqlite::open(Location::Memory, SqliteSettings::default()).expect("memory can be had");
    let store = EventStore::open(backend, Settings::default()).await.expect("an empty store opens");
    let namespace = NewNamespace {
        name: "bench".to_owned(),
        token_hash: Token::generate("bench").hash(),
        description: String::new(),
        metadata: "{}".to_owned(),
    };
    store.create(namespace).await.expect("the name is free");
    store.log("bench").await.expect("it was just created")
}

async fn listen(log: Arc<Log>, poked: Rc<Cell<i64>>) {
    let (filter, heartbeat) = (Filter::new(in_category(0)), Duration::from_secs(3_600));
    let mut subscription = log.subscribe(Subscribe { filter, start: Start::Now, coalesce: None, heartbeat });
    while subscription.next().await != Event::Closed {
        poked.set(poked.get() + 1);
    }
}

async fn reached(poked: &Cell<i64>, wanted: i64) {
    while poked.get() < wanted {
        tokio::task::yield_now().await;
    }
}

criterion_group!(benches, tail, routing, fan_out);
criterion_main!(benches);
