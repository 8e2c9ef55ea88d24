//! `/api/v1/performance`: it agrees with `/metrics`, and only those see it who may.

use eventodb_protocol::Token;
use serde_json::{Value, json};

use crate::client::Client;
use crate::metrics::scrape;
use crate::server::{Server, fresh};

const PATH: &str = "/api/v1/performance";

async fn page(client: &mut Client, path: &str) -> Value {
    let reply = client.request("GET", path, None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The number of requests up to each bound of the histogram of `/metrics` over all methods, in milliseconds.
async fn buckets(client: &mut Client) -> Vec<(f64, f64)> {
    let scrape = scrape(client, None).await;
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (series, count) in scrape.of("eventodb_request_duration_seconds_bucket") {
        let (_, bound) = series.split_once("le=\"").expect("a bucket has a bound");
        let bound = bound.trim_end_matches("\"}").parse::<f64>().expect("a bound is a number") * 1e3;
        match buckets.iter_mut().find(|(other, _)| *other == bound) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

#[tokio::test]
async fn totals_and_quantiles_agree_with_the_metrics() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let token = fresh();
    for round in 0..400 {
        let call = format!(r#"["stream.write","a-{round}",{{"type":"T","data":{{}}}}]"#);
        assert_eq!(client.call(Some(&token), &call).await.status, 200);
        let wait = [0, 0, 0, 3, 30][round % 5];
        client.call(Some(&token), &format!(r#"["category.get","b",{{"waitMs":{wait}}}]"#)).await;
    }
    let buckets = buckets(&mut client).await;
    let (_, total) = *buckets.last().expect("there are buckets");
    assert_eq!(total, 800.0);
    let all = page(&mut client, PATH).await["requests"]["process"].clone();
    assert_eq!(all["total"], 801, "the scrape was counted since");
    for (member, quantile) in [("p50Ms", 0.5), ("p95Ms", 0.95), ("p99Ms", 0.99), ("p999Ms", 0.999)] {
        // Within the buckets of the ranks beside it, because the scrape is one more.
        let rank = total * quantile;
        let least = buckets.iter().rfind(|(_, count)| *count < rank - 2.0).map_or(0.0, |(bound, _)| *bound);
        let most = buckets.iter().find(|(_, count)| *count >= (rank + 2.0).min(total)).expect("the last has all").0;
        let found = all[member].as_f64().expect("a number");
        assert!((least * 0.99..=most * 1.01).contains(&found), "{member}: {found} is not in {least}..{most}");
    }
}

#[tokio::test]
async fn patterns_add_up_to_all_requests() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for namespace in 0..120 {
        let token = Token::generate(&format!("n-{namespace}")).to_string();
        client.call(Some(&token), r#"["stream.get","a-1"]"#).await;
        client.call(Some(&token), r#"["stream.get"]"#).await;
    }
    let queries = page(&mut client, &format!("{PATH}/queries")).await;
    let patterns = queries["patterns"].as_array().expect("a list");
    let sum = |member: &str| patterns.iter().map(|of| of[member].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((sum("total"), sum("refused"), sum("failed")), (240, 120, 0));
    let named = patterns.iter().filter(|of| of["method"] == "stream.get").count();
    assert_eq!(named, 100 + 1);
}

#[tokio::test]
async fn figures_need_a_token_of_default_and_a_reset_the_administrator() {
    let server = Server::start_production().await;
    let mut client = server.connect().await;
    let admin = server.token.to_string();
    let shop = Token::generate("shop").to_string();
    server.rpc(&admin, &json!(["ns.create", "shop", { "token": shop }]).to_string()).await;
    let made = server.limited_tokens().await;
    let cases = [
        (None, 401, 401),
        (Some(&shop), 403, 403),
        (Some(&made[1]), 403, 403),
        (Some(&made[2]), 403, 403),
        (Some(&made[0]), 200, 403),
        (Some(&admin), 200, 200),
    ];
    for (token, look, reset) in cases {
        let token = token.map(String::as_str);
        for path in [PATH.to_owned(), format!("{PATH}/queries")] {
            assert_eq!(client.request("GET", &path, token).await.status, look, "{path}");
        }
        assert_eq!(client.request("POST", &format!("{PATH}/reset"), token).await.status, reset);
    }
    let all = client.request("GET", PATH, Some(&admin)).await.json()["requests"]["process"].clone();
    assert_eq!((&all["total"], &all["refused"]), (&json!(1), &json!(0)), "the reset is the only one since");
}

#[tokio::test]
async fn a_reset_with_a_body_is_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body = "x".repeat(100_000);
    let head = format!("POST {PATH}/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(format!("{head}{body}")).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json()["since"].is_string());
}
