//! What each write pays before it reaches the log: its body is parsed and cut; and what each message of a read for
//! one member of a group pays: the partition function.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eventodb_protocol::request::{Call, single_write, stream_append};
use eventodb_protocol::{ConsumerGroup, Limits, group, json};

const MESSAGE: &str =
    r#"{"type":"Deposited","data":{"amount":1234,"note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}"#;
const STREAM: &str = "account-8f14e45f-ceea-467f-a8d2-4b0c8a3b8f10";

fn parse(criterion: &mut Criterion) {
    let limits = Limits::default();
    let plain = format!(r#"["stream.write","{STREAM}",{MESSAGE}]"#);
    let full = format!(
        r#"["stream.write","{STREAM}",{MESSAGE},{{"id":"0190a5d8-7c3f-7a51-9a4e-6f1b2c3d4e5f","expectedVersion":41}}]"#
    );
    let batch = format!(r#"["stream.append","{STREAM}",[{}]]"#, vec![MESSAGE; 100].join(","));
    let mut bench = criterion.benchmark_group("parse");
    for (name, body) in [("a write", &plain), ("a write with id and version", &full)] {
        bench.throughput(Throughput::Bytes(body.len() as u64));
        bench.bench_function(name, |bencher| {
            bencher.iter(|| {
                let compact = json::compact(black_box(body)).expect("the body is JSON");
                let mut call = Call::parse(&compact).expect("the body is a call");
                single_write(&mut call, &limits).expect("the call is a write")
            });
        });
    }
    bench.throughput(Throughput::Bytes(batch.len() as u64));
    bench.bench_function("an append of 100", |bencher| {
        bencher.iter(|| {
            let compact = json::compact(black_box(&batch)).expect("the body is JSON");
            let mut call = Call::parse(&compact).expect("the body is a call");
            stream_append(&mut call, &limits).expect("the call is an append")
        });
    });
    bench.finish();
}

fn partition(criterion: &mut Criterion) {
    let member = ConsumerGroup::new(3, 8).expect("3 of 8 is a member");
    let hash = group::stream_hash(STREAM);
    let mut bench = criterion.benchmark_group("partition");
    bench.bench_function("of a stream's name", |bencher| bencher.iter(|| member.owns(black_box(STREAM))));
    bench.bench_function("of a known hash", |bencher| bencher.iter(|| member.owns_hash(black_box(hash))));
    bench.finish();
}

criterion_group!(benches, parse, partition);
criterion_main!(benches);
