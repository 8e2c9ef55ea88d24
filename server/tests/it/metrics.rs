//! `GET /metrics`: the text is well-formed, the counts are exact, and only those see it who may.

use std::collections::BTreeMap;

use eventodb_protocol::Token;
use eventodb_server::Mode;
use serde_json::json;

use crate::client::Client;
use crate::events::{Events, poke};
use crate::server::{Server, fresh, within};

/// A scrape, taken apart by the rules of the text format.
pub(crate) struct Scrape {
    types: BTreeMap<String, String>,
    /// By the name with its labels, as they stand there.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// # Panics
    /// The text breaks a rule of the format.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scrape = Self { types: BTreeMap::new(), series: BTreeMap::new() };
        let (mut described, mut current) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                help.split_once(' ').expect("a help has a text").0.clone_into(&mut described);
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').expect("a name and a type");
                assert_eq!(name, described, "each type follows its help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
                name.clone_into(&mut current);
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series has a value");
                let suffix = name_of(series).strip_prefix(&*current).unwrap_or_else(|| panic!("{line}"));
                let suffixes: &[_] =
                    if scrape.types[&current] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(scrape.series.insert(series.to_owned(), value).is_none(), "{series} is there twice");
            }
        }
        assert!(text.ends_with('\n'));
        scrape.check_histograms();
        scrape
    }

    /// Buckets never descend, and the last has as many as the histogram counts.
    fn check_histograms(&self) {
        for (series, count) in self.series.iter().filter(|(series, _)| name_of(series).ends_with("_count")) {
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}');
            let separator = if labels.is_empty() { "" } else { "," };
            let start = format!("{}_bucket{{{labels}{separator}le=\"", name.trim_end_matches("_count"));
            let mut buckets: Vec<(f64, f64)> = self
                .series
                .iter()
                .filter_map(|(series, value)| {
                    let bound = series.strip_prefix(&start)?.trim_end_matches("\"}");
                    Some((bound.parse().expect("a bound is a number"), *value))
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
    }

    /// The value of a series, as it is written in a query; 0 if it is not there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        assert!(self.types.keys().any(|name| name_of(series).starts_with(&**name)), "no metric of {series}");
        self.series.get(series).copied().unwrap_or(0.0)
    }

    /// The bounds of the bucket of a histogram in which the value of this rank lies.
    pub(crate) fn bucket(&self, name: &str, labels: &str, rank: f64) -> (f64, f64) {
        let start = format!("{name}_bucket{{{labels},le=\"");
        let bound = |series: &str| series.strip_prefix(&start)?.trim_end_matches("\"}").parse::<f64>().ok();
        let bounds = |is_wanted: &dyn Fn(f64) -> bool| {
            let wanted = self.series.iter().filter(|(_, count)| is_wanted(**count));
            wanted.filter_map(|(series, _)| bound(series)).collect::<Vec<_>>()
        };
        let below = bounds(&|count| count <= rank).into_iter().fold(0.0, f64::max);
        let above = bounds(&|count| count > rank).into_iter().fold(f64::INFINITY, f64::min);
        (below, above)
    }

    /// All series of a metric.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.series.iter().filter(move |(series, _)| name_of(series) == name).map(|(series, value)| (&**series, *value))
    }
}

fn name_of(series: &str) -> &str {
    series.split_once('{').map_or(series, |(name, _)| name)
}

/// What `/metrics` answers on this connection.
pub(crate) async fn scrape(client: &mut Client, token: Option<&str>) -> Scrape {
    let reply = get(client, token).await;
    assert_eq!(reply.0, 200, "{}", reply.1);
    Scrape::parse(&reply.1)
}

async fn get(client: &mut Client, token: Option<&str>) -> (u16, String) {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{token}\r\n")).await;
    let reply = client.reply().await;
    (reply.status, reply.text())
}

#[tokio::test]
async fn each_metric_of_the_documentation_is_there_and_no_other() {
    const DOCUMENT: &str = include_str!("../../../docs/METRICS.md");
    let server = Server::start().await;
    let scrape = scrape(&mut server.connect().await, None).await;
    let documented: Vec<_> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(scrape.types, documented.into_iter().collect());
}

#[tokio::test]
async fn requests_are_counted_to_the_last_one() {
    let server = Server::start().await;
    let token = fresh();
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    let mut clients = [server.connect().await, server.connect().await];
    for round in 0..300 {
        let calls = [
            ("stream.write", format!(r#"["stream.write","a-{round}",{{"type":"T","data":{{}}}}]"#)),
            (
                "stream.write",
                format!(r#"["stream.write","a-{round}",{{"type":"T","data":{{}}}},{{"expectedVersion":7}}]"#),
            ),
            ("stream.get", format!(r#"["stream.get","a-{round}"]"#)),
            ("stream.get", r#"["stream.get",7]"#.to_owned()),
            ("unknown call", format!(r#"["no.such.{round}"]"#)),
            ("unknown call", "{".to_owned()),
            ("sys.version", r#"["sys.version"]"#.to_owned()),
        ];
        for (method, call) in calls {
            let status = clients[round % 2].call(Some(&token), &call).await.status;
            *expected
                .entry(format!("eventodb_requests_total{{method=\"{method}\",status=\"{status}\"}}"))
                .or_default() += 1.0;
        }
    }
    let scrape = scrape(&mut clients[0], None).await;
    let counted: BTreeMap<String, f64> =
        scrape.of("eventodb_requests_total").map(|(series, count)| (series.to_owned(), count)).collect();
    assert_eq!(counted, expected, "the scrape itself is not counted yet");
    assert_eq!(scrape.value("eventodb_errors_total{code=\"STREAM_VERSION_CONFLICT\"}"), 300.0);
    assert_eq!(scrape.value("eventodb_request_duration_seconds_count{method=\"stream.write\"}"), 600.0);
    assert_eq!(scrape.value("eventodb_connections"), 2.0);
    assert_eq!(scrape.value("eventodb_connections_accepted_total"), 2.0);
    assert!(scrape.value("eventodb_received_bytes_total") > 2_100.0 * 50.0);
    assert!(scrape.value("eventodb_sent_bytes_total") > 2_100.0 * 50.0);
}

#[tokio::test]
async fn bytes_are_counted_as_they_pass_the_socket() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let before = scrape(&mut client, None).await;
    let request = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(request).await;
    client.reply().await;
    let after = scrape(&mut client, None).await;
    let scrape_request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let received = after.value("eventodb_received_bytes_total") - before.value("eventodb_received_bytes_total");
    assert_eq!(received, (request.len() + scrape_request.len()) as f64);
    assert!(after.value("eventodb_sent_bytes_total") > before.value("eventodb_sent_bytes_total"));
}

#[tokio::test]
async fn what_clients_make_up_gets_no_series() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let before = scrape(&mut client, None).await.series.len();
    for number in 0..100 {
        client.call(Some(&fresh()), &format!(r#"["made.up.{number}"]"#)).await;
        client.send(format!("GET /made/up/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(client.reply().await.status, 404);
    }
    let after = scrape(&mut client, None).await;
    let of_histogram = 20;
    assert!(after.series.len() <= before + 3 * (1 + of_histogram) + 2, "{} after {before}", after.series.len());
}

#[tokio::test]
async fn a_scrape_needs_a_token_of_default_that_reads_everything() {
    let server = Server::start_production().await;
    let mut client = server.connect().await;
    let admin = server.token.to_string();
    let shop = Token::generate("shop").to_string();
    server.rpc(&admin, &json!(["ns.create", "shop", { "token": shop }]).to_string()).await;
    let made = server.limited_tokens().await;
    let wrong = Token::generate("default").to_string();
    let cases = [
        (None, 401),
        (Some(&wrong), 403),
        (Some(&shop), 403),
        (Some(&made[1]), 403),
        (Some(&made[2]), 403),
        (Some(&made[0]), 200),
        (Some(&admin), 200),
    ];
    for (token, status) in cases {
        let (found, text) = get(&mut client, token.map(String::as_str)).await;
        assert_eq!(found, status, "{text}");
    }
}

#[tokio::test]
async fn public_metrics_need_no_token() {
    let server = Server::start_with(|config| {
        config.mode = Mode::Production;
        config.metrics_public = true;
    })
    .await;
    scrape(&mut server.connect().await, None).await;
    assert_eq!(server.call("", r#"["ns.list"]"#).await.status, 401, "everything else needs one");
}

#[tokio::test]
async fn appends_are_counted_by_their_outcome_to_the_last_one() {
    const EACH: usize = 100;
    let server = Server::start().await;
    let token = fresh();
    let mut client = server.connect().await;
    let write = |number: usize, data: &str, options: &str| {
        let id = uuid::Uuid::from_u128(number as u128);
        format!(r#"["stream.write","a-{number}",{{"type":"T","id":"{id}","data":{data}}},{options}]"#)
    };
    for number in 1..=EACH {
        let condition = r#"["streams.append",[{"stream":"b-1","messages":[{"type":"T","data":{}}]}],{"checks":[{"absent":{"categories":["a"]}}]}]"#;
        let calls = [
            (write(number, "{}", "{}"), 200),
            (write(number, "{}", "{}"), 200),
            (write(number, r#"{"x":7}"#, "{}"), 409),
            (format!(r#"["stream.write","a-{number}",{{"type":"T","data":{{}}}},{{"expectedVersion":7}}]"#), 409),
            (condition.to_owned(), 409),
        ];
        for (call, status) in calls {
            let reply = client.call(Some(&token), &call).await;
            assert_eq!(reply.status, status, "{call}: {}", reply.text());
        }
    }
    let scrape = scrape(&mut client, None).await;
    for (outcome, count) in
        [("written", EACH), ("repeated", EACH), ("id", EACH), ("version", EACH), ("condition", EACH), ("fenced", 0)]
    {
        assert_eq!(
            scrape.value(&format!("eventodb_appends_total{{outcome=\"{outcome}\"}}")),
            count as f64,
            "{outcome}"
        );
    }
    let each = EACH as f64;
    assert_eq!(scrape.value("eventodb_appended_messages_total"), each);
    assert_eq!(scrape.value("eventodb_batch_messages_sum"), each);
    assert_eq!(scrape.value("eventodb_commit_duration_seconds_count"), scrape.value("eventodb_batch_messages_count"));
    assert_eq!(
        scrape.value("eventodb_append_queue_wait_seconds_count"),
        5.0 * each + scrape.value("eventodb_append_rounds_total")
    );
    assert_eq!(scrape.value("eventodb_conditional_appends_total"), each);
    assert_eq!(scrape.value("eventodb_append_queue_depth"), 0.0);
    assert!(scrape.value("eventodb_commit_recent_max_seconds{window=\"1m\"}") > 0.0);
    let heads: Vec<_> = scrape.of("eventodb_head").filter(|(_, head)| *head > 0.0).collect();
    assert!(matches!(heads[..], [(_, head)] if head == each), "{heads:?}");
}

#[tokio::test]
async fn pokes_are_counted_to_the_last_one_and_subscriptions_while_they_are_open() {
    let server = Server::start().await;
    let token = fresh();
    server.fill(&token, "a-1", 50, "{}").await;
    let mut client = server.connect().await;
    let open = |kind| format!("eventodb_subscriptions{{kind=\"{kind}\"}}");
    let mut subscribers = Vec::new();
    for query in ["stream=a-1&position=0", "category=a", "category=a&position=1", "all=true", "category=other"] {
        let mut events = Events::subscribe(&server, &token, query).await;
        events.up_to(": caught-up").await;
        subscribers.push(events);
    }
    for _ in 0..20 {
        server.fill(&token, "a-1", 10, "{}").await;
    }
    for events in &mut subscribers[..4] {
        events.up_to(&poke("a-1", 249, 250)).await;
    }
    let scraped = scrape(&mut client, None).await;
    assert_eq!([open("stream"), open("category"), open("all")].map(|series| scraped.value(&series)), [1.0, 3.0, 1.0]);
    assert_eq!(scraped.value("eventodb_pokes_total"), (4 * 200 + 3 * 50) as f64);
    let live = scraped.value("eventodb_poke_delay_seconds_count");
    assert!((4.0..=800.0).contains(&live), "history is not among them: {live}");
    assert_eq!(scraped.value("eventodb_subscription_lag_max"), 0.0);
    drop(subscribers);
    within("the end of the subscriptions", async {
        while scrape(&mut client, None).await.of("eventodb_subscriptions").any(|(_, open)| open > 0.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn groups_are_counted_and_show_how_far_they_are() {
    let server = Server::start().await;
    let token = Token::generate("shop").to_string();
    let mut client = server.connect().await;
    server.fill(&token, "a-1", 30, "{}").await;
    server.rpc(&token, r#"["group.create","g",{"categories":["a"],"partitions":2}]"#).await;
    let joined: serde_json::Value =
        serde_json::from_str(&server.rpc(&token, r#"["group.join","g"]"#).await).expect("JSON");
    let member = joined["member"].as_str().expect("a member");
    let read: serde_json::Value = serde_json::from_str(
        &server.rpc(&token, &json!(["group.read", "g", member, {"batchSize": 10}]).to_string()).await,
    )
    .expect("JSON");
    let partition = read["messages"][0].as_array().and_then(|row| row.last()).expect("its partition");
    let assigned = read["assigned"].as_array().expect("partitions");
    let own = assigned.iter().find(|own| own["partition"] == *partition).expect("it is one of them");
    let checkpoint = json!({ partition.to_string(): { "epoch": own["epoch"], "position": 10 } });
    server.rpc(&token, &json!(["group.heartbeat", "g", member, { "checkpoints": checkpoint }]).to_string()).await;
    for _ in 0..25 {
        let reply = server.call(&token, r#"["group.heartbeat","g","nobody"]"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (409, "FENCED"));
    }
    let scrape = scrape(&mut client, None).await;
    let of = |name: &str| scrape.value(&format!("{name}{{namespace=\"shop\",group=\"g\"}}"));
    assert_eq!(of("eventodb_group_lag_messages"), 20.0);
    assert!(of("eventodb_group_lag_seconds") >= 0.0);
    assert_eq!(of("eventodb_group_partitions_unowned"), 0.0);
    assert_eq!(of("eventodb_group_parked_streams"), 0.0);
    assert_eq!(scrape.value("eventodb_group_handling_seconds_count"), 1.0);
    assert_eq!(scrape.value("eventodb_group_fenced_total"), 25.0);
    assert_eq!(scrape.value("eventodb_errors_total{code=\"FENCED\"}"), 25.0);
    assert!(scrape.value("eventodb_group_rebalances_total") >= 1.0);
}
