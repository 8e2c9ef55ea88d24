//! Malformed calls: each is refused, or parsed into something within the bounds.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::Right;
use crate::testing::{self, mangled};

/// Arguments that some method takes.
fn argument() -> impl Strategy<Value = Value> {
    let message = json!({"type": "T", "data": {"n": 1}, "metadata": {"correlationStreamName": "a-1"}, "id": "01a1fc08-5531-75a2-ad93-a98729fd37f0"});
    prop_oneof![
        select(vec!["account-123", "account", "", "a-1+2", "a,b"]).prop_map(Value::from),
        Just(message.clone()),
        Just(json!([message, message])),
        Just(json!([{"stream": "a-1", "messages": [message], "expectedVersion": -1}])),
        Just(
            json!({"expectedVersion": "exists", "id": "01a1fc08-5531-75a2-ad93-a98729fd37f0", "checks": [{"stream": "a-1", "expectedVersion": 3}]})
        ),
        Just(
            json!({"position": 3, "globalPosition": 4, "batchSize": -1, "direction": "backward", "types": ["A", "B"], "wait": 10})
        ),
        Just(
            json!({"correlation": "a", "consumerGroup": {"member": 1, "size": 2}, "limit": 5, "prefix": "a", "cursor": "a-1"})
        ),
        Just(
            json!({"namespace": "a", "rights": ["read", "admin"], "categories": ["a", "b*"], "expiresAt": "2030-01-01T00:00:00Z", "graceMs": 10})
        ),
        Just(
            json!({"partitions": 3, "sessionMs": 1000, "maxParked": 5, "adopt": {"size": 2, "checkpoints": [1, 2]}, "to": {"group": "a"}})
        ),
        Just(
            json!({"checkpoints": {"1": {"epoch": 5, "position": 6}}, "after": {"1": {"epoch": 5, "position": 7}}, "released": {"2": 8}, "waitMs": 9})
        ),
        Just(
            json!({"partition": 1, "epoch": 5, "stream": "a-1", "position": 6, "readTo": 7, "rev": 8, "attempt": 2, "reason": "x", "retryInMs": 9})
        ),
        testing::json(),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let method = select(vec!["stream.write", "category.get", ""]).prop_map(Value::from);
    (method, prop::collection::vec(argument(), 0..4))
        .prop_map(|(method, arguments)| Value::from([vec![method], arguments].concat()).to_string())
}

fn check_append(append: &Append, limits: &Limits) {
    assert!(!append.is_empty() && append.entries.iter().all(|entry| !entry.messages.is_empty()));
    for entry in &append.entries {
        assert!(entry.stream.len() <= limits.name_bytes && !entry.stream.is_empty());
        for message in &entry.messages {
            assert!(message.kind.len() <= limits.name_bytes && message.size() <= limits.message_bytes);
            for object in std::iter::once(&message.data).chain(&message.metadata) {
                assert_eq!(json::compact(object).expect("well-formed"), **object);
                assert!(object.starts_with('{') && json::depth(object) <= limits.json_depth);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_body_is_refused_or_within_the_bounds(body in mangled(body())) {
        let limits = Limits { name_bytes: 20, message_bytes: 60, json_depth: 3, ..Limits::default() };
        let Ok(text) = std::str::from_utf8(&body) else { return Ok(()) };
        let Ok(compact) = json::compact(text) else { return Ok(()) };
        let Ok(call) = Call::parse(&compact) else { return Ok(()) };
        for body in [text, &*compact] {
            let method = Call::method_of(body.as_bytes());
            prop_assert_eq!(method.as_deref(), Some(call.method()));
        }
        for parse in [single_write, stream_append, streams_append] {
            if let Ok(append) = parse(&mut call.clone(), &limits) {
                check_append(&append, &limits);
            }
        }
        let reads = [
            Read::stream_get(&mut call.clone(), &limits),
            Read::category_get(&mut call.clone(), &limits),
            Read::stream_last(&mut call.clone(), &limits),
        ];
        for read in reads.into_iter().flatten() {
            prop_assert!(read.limit <= crate::limits::BATCH_SIZE_MAX);
        }
        let _ = ListPage::streams(&mut call.clone(), &limits);
        let _ = ListPage::categories(&mut call.clone(), &limits);
        if let Ok(new) = CreateToken::parse(&mut call.clone(), "own", &limits) {
            prop_assert!(Right::ALL.into_iter().any(|right| new.grant.rights().has(right)));
        }
        if let Ok(rotation) = RotateToken::parse(&mut call.clone()) {
            prop_assert!(rotation.grace.as_millis() <= u128::from(crate::limits::GRACE_MAX_MS));
        }
        let _ = ListTokens::parse(&mut call.clone(), "own", &limits);
        let _ = RevokeToken::parse(&mut call.clone());
        let _ = CreateNamespace::parse(&mut call.clone(), &limits);
        let _ = UpdateNamespace::parse(&mut call.clone());
    }

    #[test]
    fn any_group_call_is_refused_or_within_the_bounds(body in mangled(body())) {
        let limits = Limits { name_bytes: 20, ..Limits::default() };
        let Ok(text) = std::str::from_utf8(&body) else { return Ok(()) };
        let Ok(compact) = json::compact(text) else { return Ok(()) };
        let Ok(call) = Call::parse(&compact) else { return Ok(()) };
        if let Ok(new) = group::CreateGroup::parse(&mut call.clone(), &limits) {
            prop_assert!((1..=crate::limits::PARTITIONS).contains(&new.partitions));
            prop_assert!(new.categories.len() <= crate::limits::FILTER_NAMES);
        }
        if let Ok(read) = group::ReadGroup::parse(&mut call.clone()) {
            prop_assert!(read.batch <= crate::limits::BATCH_SIZE_MAX);
            prop_assert!(read.after.len() <= crate::limits::PARTITIONS as usize);
        }
        if let Ok(park) = group::Park::parse(&mut call.clone()) {
            prop_assert!(park.reason.len() <= crate::limits::REASON_BYTES && !park.reason.contains('\0'));
        }
        if let Ok(page) = group::ParkedPage::parse(&mut call.clone(), &limits) {
            prop_assert!((1..=crate::limits::GROUP_LIST_MAX).contains(&page.limit));
        }
        let _ = group::Join::parse(&mut call.clone(), &limits);
        let _ = group::MemberCall::parse(&mut call.clone());
        let _ = group::Leave::parse(&mut call.clone());
        let _ = group::UpdateGroup::parse(&mut call.clone());
        let _ = group::ResizeGroup::parse(&mut call.clone());
        let _ = group::ResetGroup::parse(&mut call.clone(), &limits);
        let _ = group::Handled::parse(&mut call.clone(), &limits);
        let _ = group::Retry::parse(&mut call.clone(), &limits);
        let _ = group::Skip::parse(&mut call.clone(), &limits);
        let _ = group::AuditPage::parse(&mut call.clone());
        let _ = group::Wait::parse(&mut call.clone(), &limits);
    }
}
