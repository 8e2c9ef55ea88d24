use eventodb_schema::Token;
use eventodb_schema::message::*;
use eventodb_schema::request::*;
use eventodb_store::backend::{
    NewNamespace,
    sqlite::{self, Location, Sqlite},
};
use eventodb_store::*;
use std::sync::Arc;
use std::time::Instant;
#[tokio::main]
async fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let streams: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let conc: usize = std::env::args().nth(3).unwrap().parse().unwrap();
    let per: usize = std::env::args().nth(4).unwrap().parse().unwrap();
    let dir = std::env::args().nth(5).unwrap();
    let backend = Sqlite::open(Location::Directory(dir.into()), sqlite::Settings::default()).unwrap();
    let store = EventStore::open(backend, Settings::default()).await.unwrap();
    let t = Token::generate("x");
    let _ = store
        .create(NewNamespace { name: "x".into(), token_hash: t.hash(), description: "".into(), metadata: "{}".into() })
        .await;
    let s = Instant::now();
    let log = store.log("x").await.unwrap();
    println!("opened in {:?} head {}", s.elapsed(), log.head());
    let s = Instant::now();
    let mut tasks = vec![];
    for c in 0..conc {
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            let mut lat = Vec::new();
            let mut x: u64 = c as u64 * 7919 + 1;
            for _ in 0..n / conc / per {
                let messages: Vec<_> = (0..per)
                    .map(|_| NewMessage {
                        id: None,
                        kind: "Deposited".into(),
                        data: "{\"amount\":12345,\"currency\":\"EUR\",\"note\":\"something of sixty\"}".into(),
                        metadata: None,
                    })
                    .collect();
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let k = (x >> 33) as usize % streams;
                let stream: Arc<str> = format!("cat{}-{}", k % 20, k).into();
                let s = Instant::now();
                log.append(Append {
                    entries: vec![AppendEntry { stream, expected: Expected::Any, messages }],
                    checks: vec![],
                })
                .await
                .unwrap();
                lat.push(s.elapsed().as_micros() as u32);
            }
            lat
        }));
    }
    let mut lat = vec![];
    for t in tasks {
        lat.extend(t.await.unwrap());
    }
    lat.sort();
    let e = s.elapsed();
    println!(
        "{} msgs/s p50 {} p99 {} p99.9 {} max {}",
        n as f64 / e.as_secs_f64(),
        lat[lat.len() / 2],
        lat[lat.len() * 99 / 100],
        lat[lat.len() * 999 / 1000],
        lat.last().unwrap()
    );
    let s = Instant::now();
    let mut from = 1;
    let mut count = 0;
    while count < 1_000_000 {
        let mut p = log
            .read(Read::forward(
                eventodb_schema::Filter::new(eventodb_schema::Scope::Categories(vec!["cat1".into()])),
                from,
                1000,
            ))
            .await
            .unwrap();
        let mut out = Vec::new();
        let mut k = 0;
        while let Some(c) = p.next().await.unwrap() {
            c.write(&mut out, eventodb_schema::wire::Form::Category);
            k += c.len();
            from = c.iter().last().unwrap().global_position + 1;
        }
        count += k;
        if k == 0 {
            break;
        }
    }
    println!("catch-up category {} msgs/s", count as f64 / s.elapsed().as_secs_f64());
    let s = Instant::now();
    let mut from = 1;
    let mut count = 0;
    while count < 1_000_000 {
        let mut p = log
            .read(Read::forward(eventodb_schema::Filter::new(eventodb_schema::Scope::All), from, 1000))
            .await
            .unwrap();
        let mut out = Vec::new();
        let mut k = 0;
        while let Some(c) = p.next().await.unwrap() {
            c.write(&mut out, eventodb_schema::wire::Form::Category);
            k += c.len();
            from = c.iter().last().unwrap().global_position + 1;
        }
        count += k;
        if k == 0 {
            break;
        }
    }
    println!("catch-up all {} msgs/s", count as f64 / s.elapsed().as_secs_f64());
    let s = Instant::now();
    store.close().await;
    println!("closed in {:?}", s.elapsed());
}
