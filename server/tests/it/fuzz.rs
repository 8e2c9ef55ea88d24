//! Calls as nobody should send them, to a running server: each gets a reply of the protocol, and none is a fault
//! of the server.

use eventodb_protocol::testing::{self, mangled};
use eventodb_server::METHODS;
use proptest::prelude::*;
use proptest::sample::select;

use crate::client::head;
use crate::server::{Server, fresh};

fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        select(
            &[
                r#""account-1""#,
                r#""account""#,
                r#""""#,
                r#"{"type":"T","data":{"n":1},"metadata":{"correlationStreamName":"a-1"}}"#,
                r#"[{"type":"T","data":{}},{"type":"U","data":{},"metadata":null}]"#,
                r#"[{"stream":"a-1","messages":[{"type":"T","data":{}}]}]"#,
                r#"{"expectedVersion":-1,"id":"01a1fc08-5531-75a2-ad93-a98729fd37f0"}"#,
                r#"{"position":1,"batchSize":10,"correlation":"a","consumerGroup":{"member":0,"size":2}}"#,
                r#"{"globalPosition":2,"types":["T"],"direction":"backward","prefix":"a","limit":3,"cursor":"a"}"#,
            ][..]
        )
        .prop_map(str::to_owned),
        testing::json().prop_map(|value| value.to_string()),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let methods: Vec<&str> = METHODS.iter().copied().chain(["none"]).collect();
    (select(methods), prop::collection::vec(argument(), 0..4)).prop_map(|(method, arguments)| {
        let method = format!("\"{method}\"");
        format!("[{}]", [vec![method], arguments].concat().join(","))
    })
}

proptest! {
    // A server for each case.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(32), ..ProptestConfig::default() })]

    #[test]
    fn any_call_gets_a_reply_of_the_protocol(bodies in prop::collection::vec(mangled(body()), 1..30)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let (server, token) = (Server::start().await, fresh());
            let mut client = server.connect().await;
            for body in bodies {
                // Reads that wait are for another test.
                if body.windows(4).any(|part| part == b"wait") {
                    continue;
                }
                client.send(head("POST", "/rpc", Some(&token), &format!("Content-Length: {}\r\n", body.len()))).await;
                client.send(&body).await;
                let reply = client.reply().await;
                let text = reply.text();
                assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{text}");
                assert!(matches!(reply.status, 200 | 400 | 403 | 404 | 409 | 413), "{} {text}", reply.status);
                assert_eq!(reply.status != 200, text.starts_with("{\"error\":{\"code\":\""), "{text}");
            }
        });
    }
}
