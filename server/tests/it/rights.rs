//! Who may do what: the table of the documentation, and that no sequence of calls gives anybody more.

use eventodb_protocol::rights::{Categories, Grant, Right};
use eventodb_protocol::{Limits, Token, name};
use eventodb_server::{METHODS, Mode, NEEDS, Need, ROUTES};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::Server;

const DOCUMENT: &str = include_str!("../../../docs/API.md");

/// What the table of rights says in its second column.
fn documented(need: Need) -> String {
    match need {
        Need::Nothing => "nothing".to_owned(),
        Need::Own(right) => format!("`{right}`"),
        Need::Named(right) => format!("`{right}` of the named namespace"),
        Need::Administrator => "the administrator".to_owned(),
    }
}

#[test]
fn the_documented_table_is_that_of_the_code() {
    let (_, section) = DOCUMENT.split_once("### Rights\n").expect("a section about rights");
    let (section, _) = section.split_once("## Test mode").expect("a section after it");
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(call, rest)| (call, rest.split(" | ").next().expect("a split has a first part")))
        .collect();
    let needs = METHODS.iter().zip(NEEDS).chain(ROUTES.iter().map(|(path, need)| (path, need)));
    for (call, need) in needs {
        let (_, told) = rows.iter().find(|(name, _)| name == call).unwrap_or_else(|| panic!("no row for {call}"));
        let more = told.strip_prefix(&*documented(*need)).unwrap_or_else(|| panic!("{call}: {told}"));
        assert!(more.is_empty() || more.starts_with(", and `"), "{call}: {told}");
    }
    let known = |name: &str| METHODS.contains(&name) || ROUTES.iter().any(|(path, _)| *path == name);
    let unknown: Vec<_> = rows.iter().filter(|(name, _)| !known(name.split('?').next().expect("a part"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The namespaces of the property. An attacker begins with tokens of the first two, and none of them is the administrator's.
const NAMESPACES: [&str; 3] = ["mine", "default", "foreign"];
const CATEGORIES: [&str; 4] = ["account", "accounts", "order", "secret"];
/// Groups of each namespace: two that are there, of all categories and of one, and one that an attacker may make.
const GROUPS: [&str; 3] = ["all", "secrets", "own"];
const GROUP_CALLS: [&str; 17] = [
    "group.create",
    "group.create",
    "group.join",
    "group.join",
    "group.read",
    "group.read",
    "group.heartbeat",
    "group.leave",
    "group.list",
    "group.status",
    "group.parked",
    "group.audit",
    "group.update",
    "group.resize",
    "group.reset",
    "group.skip",
    "group.delete",
];

/// A call that an attacker makes with one of the tokens that it holds.
#[derive(Clone, Debug)]
struct Attempt {
    by: Index,
    call: Call,
}

#[derive(Clone, Debug)]
enum Call {
    Create {
        namespace: Option<&'static str>,
        rights: Vec<Right>,
        categories: Option<Vec<String>>,
        chosen: Option<&'static str>,
    },
    Rotate {
        which: Option<Index>,
        grace_ms: u64,
        chosen: Option<&'static str>,
    },
    Revoke {
        which: Index,
    },
    List {
        namespace: &'static str,
    },
    Namespace {
        method: &'static str,
        namespace: &'static str,
    },
    Group {
        method: &'static str,
        group: &'static str,
        categories: Option<Vec<String>>,
        member: Index,
    },
}

/// A token that an attacker begins with.
#[derive(Clone, Debug)]
struct Given {
    namespace: &'static str,
    grant: Grant,
}

fn patterns() -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(vec(select(&["account", "acc*", "order", "s*"][..]).prop_map(str::to_owned), 1..3))
}

fn rights() -> impl Strategy<Value = Vec<Right>> {
    subsequence(Right::ALL.to_vec(), 1..=4)
}

fn given() -> impl Strategy<Value = Given> {
    (select(&NAMESPACES[..2]), rights(), patterns()).prop_filter_map("makes sense", |(namespace, rights, patterns)| {
        if namespace == "default" && rights.contains(&Right::Admin) {
            return None;
        }
        let categories = match patterns {
            None => Categories::All,
            Some(names) => Categories::only(names, &Limits::default()).ok()?,
        };
        Some(Given { namespace, grant: Grant::new(rights.into_iter().collect(), categories).ok()? })
    })
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let namespace = || select(&NAMESPACES[..]);
    let call = prop_oneof![
        4 => (prop::option::of(namespace()), rights(), patterns(), prop::option::of(namespace())).prop_map(
            |(namespace, rights, categories, chosen)| Call::Create { namespace, rights, categories, chosen }
        ),
        4 => (prop::option::of(any::<Index>()), select(&[0, 60_000][..]), prop::option::of(namespace()))
            .prop_map(|(which, grace_ms, chosen)| Call::Rotate { which, grace_ms, chosen }),
        1 => any::<Index>().prop_map(|which| Call::Revoke { which }),
        1 => namespace().prop_map(|namespace| Call::List { namespace }),
        2 => (select(&["ns.create", "ns.update", "ns.info", "ns.list", "ns.delete"][..]), namespace())
            .prop_map(|(method, namespace)| Call::Namespace { method, namespace }),
        8 => (select(&GROUP_CALLS[..]), select(&GROUPS[..]), patterns(), any::<Index>())
            .prop_map(|(method, group, categories, member)| Call::Group { method, group, categories, member }),
    ];
    (any::<Index>(), call).prop_map(|(by, call)| Attempt { by, call })
}

/// An attacker: all the tokens that it was given, made or made up, the ids of all tokens that there are, and its members of
/// groups.
struct Attacker<'a> {
    server: &'a Server,
    given: &'a [Given],
    held: Vec<String>,
    ids: Vec<String>,
    members: Vec<String>,
}

impl<'a> Attacker<'a> {
    async fn new(server: &'a Server, given: &'a [Given]) -> Self {
        let administrator = server.token.as_str();
        set_up(server, administrator).await;
        for namespace in ["mine", "foreign"] {
            let made = server.rpc(administrator, &json!(["ns.create", namespace]).to_string()).await;
            let made: Value = serde_json::from_str(&made).expect("JSON");
            set_up(server, made["token"].as_str().expect("a token")).await;
        }
        let mut attacker =
            Self { server, given, held: Vec::new(), ids: Vec::new(), members: vec!["nobody".to_owned()] };
        for Given { namespace, grant } in given {
            let rights: Vec<_> = grant.rights().iter().map(Right::name).collect();
            let categories = grant.categories().names();
            let options = json!({"namespace": namespace, "rights": rights, "categories": categories});
            let made = server.rpc(administrator, &json!(["token.create", options]).to_string()).await;
            let made: Value = serde_json::from_str(&made).expect("JSON");
            attacker.held.push(made["token"].as_str().expect("a token").to_owned());
        }
        for namespace in NAMESPACES {
            let listed = server.rpc(administrator, &json!(["token.list", {"namespace": namespace}]).to_string()).await;
            let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
            attacker.ids.extend(listed.iter().map(|token| token["id"].as_str().expect("an id").to_owned()));
        }
        attacker
    }

    async fn call(&self, token: &str, body: &Value) -> Reply {
        self.server.call(token, &body.to_string()).await
    }

    /// A token that the attacker chooses itself, and holds from then on whatever comes of it.
    fn choose(&mut self, namespace: Option<&str>) -> Option<String> {
        let token = Token::generate(namespace?).to_string();
        self.held.push(token.clone());
        Some(token)
    }

    async fn attempt(&mut self, attempt: Attempt) {
        let by = attempt.by.get(&self.held).clone();
        let body = match attempt.call {
            Call::Create { namespace, rights, categories, chosen } => {
                let rights: Vec<_> = rights.into_iter().map(Right::name).collect();
                let token = self.choose(chosen);
                json!(["token.create", {"namespace": namespace, "rights": rights, "categories": categories, "token": token}])
            }
            Call::Rotate { which, grace_ms, chosen } => {
                let id = which.map(|which| which.get(&self.ids).clone());
                json!(["token.rotate", id, {"graceMs": grace_ms, "token": self.choose(chosen)}])
            }
            Call::Revoke { which } => json!(["token.revoke", which.get(&self.ids)]),
            Call::List { namespace } => json!(["token.list", {"namespace": namespace}]),
            Call::Namespace { method, namespace } => json!([method, namespace, {}]),
            Call::Group { method, group, categories, member } => {
                self.try_group(&by, method, group, (categories, member.get(&self.members).clone())).await;
                return;
            }
        };
        let reply = self.call(&by, &body).await;
        if reply.status != 200 {
            return;
        }
        let result: Value = serde_json::from_str(&reply.text()).expect("JSON");
        if let (Some(token), Some(id)) = (result["token"].as_str(), result["id"].as_str()) {
            self.held.push(token.to_owned());
            self.ids.push(id.to_owned());
        }
    }

    /// Makes a call on a group, which must not tell or do more than was given.
    async fn try_group(&mut self, by: &str, method: &str, group: &str, of: (Option<Vec<String>>, String)) {
        let (categories, member) = of;
        let body = match method {
            "group.create" => json!([method, group, {"categories": categories, "partitions": 1}]),
            "group.read" | "group.heartbeat" | "group.leave" => json!([method, group, member]),
            "group.list" => json!([method]),
            "group.update" => json!([method, group, {"description": "changed"}]),
            "group.resize" => json!([method, group, {"partitions": 2}]),
            "group.reset" => json!([method, group, {"to": "beginning"}]),
            "group.skip" => json!([method, group, {"stream": "secret-1", "position": 1}]),
            _ => json!([method, group]),
        };
        let reply = self.call(by, &body).await;
        if reply.status != 200 {
            return;
        }
        let result: Value = serde_json::from_str(&reply.text()).expect("JSON");
        self.members.extend(result["member"].as_str().map(str::to_owned));
        let namespace = by.parse::<Token>().expect("a token").namespace().to_owned();
        let is_allowed = match method {
            "group.create" => self.may_all(&namespace, Right::Consume, &result),
            "group.status" => self.may_all(&namespace, Right::Read, &result),
            "group.list" => items(&result).all(|group| self.may_all(&namespace, Right::Read, group)),
            "group.read" => items(&result["messages"]).all(|message| {
                let stream = message[1].as_str().expect("a stream");
                self.may(&namespace, Right::Consume, name::category(stream))
            }),
            "group.join" | "group.heartbeat" | "group.leave" => self.has(&namespace, Right::Consume),
            "group.parked" | "group.audit" => self.has(&namespace, Right::Read),
            _ => self.has(&namespace, Right::Admin),
        };
        assert!(is_allowed, "{body} in {namespace}: {result}");
    }

    /// Whether the attacker was given this right for all that a group reads.
    fn may_all(&self, namespace: &str, right: Right, group: &Value) -> bool {
        let mut categories = items(&group["categories"]).peekable();
        if categories.peek().is_none() {
            return self.given.iter().any(|given| given.namespace == namespace && given.grant.allows_everywhere(right));
        }
        categories.all(|category| self.may(namespace, right, category.as_str().expect("a category")))
    }

    /// Whether one of the tokens that the attacker began with has this right in any category.
    fn has(&self, namespace: &str, right: Right) -> bool {
        self.given.iter().any(|given| given.namespace == namespace && given.grant.rights().has(right))
    }

    /// Whether one of the tokens that the attacker began with allows this.
    fn may(&self, namespace: &str, right: Right, category: &str) -> bool {
        self.given.iter().any(|given| given.namespace == namespace && given.grant.allows(right, category))
    }

    /// Tries each token for the groups that were there before.
    async fn check_groups(&mut self) {
        for token in self.held.clone() {
            for group in &GROUPS[..2] {
                for method in ["group.status", "group.join", "group.read"] {
                    let member = self.members.last().expect("there is one").clone();
                    self.try_group(&token, method, group, (None, member)).await;
                }
            }
        }
    }

    /// Tries each token that opens something for everything else.
    async fn check(&self) {
        for token in &self.held {
            // Most were made up, and nothing came of them.
            let first = self.call(token, &json!(["ns.streams"])).await;
            if first.status == 403 && first.text().contains("does not open this namespace") {
                continue;
            }
            let namespace = token.parse::<Token>().expect("a token").namespace().to_owned();
            for category in CATEGORIES {
                let stream = format!("{category}-1");
                for (right, body) in [
                    (Right::Read, json!(["stream.version", stream])),
                    (Right::Read, json!(["category.get", category])),
                    (Right::Write, json!(["stream.write", stream, {"type": "T", "data": {}}])),
                    (Right::Consume, json!(["group.create", format!("of-{category}"), {"categories": [category]}])),
                ] {
                    let reply = self.call(token, &body).await;
                    assert!(reply.status == 403 || self.may(&namespace, right, category), "{body} in {namespace}");
                }
            }
            let is_admin = self.may(&namespace, Right::Admin, "any");
            let everywhere = self.may(&namespace, Right::Read, "a category that nobody was given");
            for (allowed, body) in [
                (everywhere, json!(["category.get", ""])),
                (is_admin, json!(["token.list"])),
                (is_admin, json!(["ns.update", namespace, {}])),
                (false, json!(["ns.update", namespace, {"quota": {}}])),
                (false, json!(["ns.info", "foreign"])),
                (false, json!(["ns.list"])),
                (false, json!(["ns.create", "new"])),
            ] {
                let reply = self.call(token, &body).await;
                assert!(reply.status == 403 || allowed, "{body} in {namespace}: {}", reply.text());
            }
        }
    }
}

/// What a namespace holds before an attacker comes.
async fn set_up(server: &Server, token: &str) {
    for category in CATEGORIES {
        let write = json!(["stream.write", format!("{category}-1"), {"type": "T", "data": {}}]);
        server.rpc(token, &write.to_string()).await;
    }
    for (group, categories) in [("all", json!([])), ("secrets", json!(["secret"]))] {
        server
            .rpc(token, &json!(["group.create", group, {"categories": categories, "partitions": 1}]).to_string())
            .await;
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

proptest! {
    // A server for each case.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(16), ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_calls_gives_more_than_was_given(given in vec(given(), 1..4), attempts in vec(attempt(), 1..40)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let server = Server::start_with(|config| {
                config.mode = Mode::Production;
                config.changeable.rates.wrong_tokens = None;
            })
            .await;
            let mut attacker = Attacker::new(&server, &given).await;
            for attempt in attempts {
                attacker.attempt(attempt).await;
            }
            attacker.check_groups().await;
            attacker.check().await;
        });
    }
}
