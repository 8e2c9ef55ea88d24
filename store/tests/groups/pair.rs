//! The oracle and what is under test, side by side: the same calls at the same times must have the same replies.

use std::collections::HashMap;

use serde_json::Value;

use crate::oracle::Model;
use crate::oracle::checks::Answer;

/// What is under test: something that keeps one namespace with groups.
pub(crate) trait Subject {
    /// Ends the leases and deadlines that are over, of every group by name, as the timer of a server does.
    fn tick(&mut self, now: i64);

    /// A request, as it arrives at `now`.
    fn call(&mut self, now: i64, method: &str, args: &[Value]) -> Result<Value, Failure>;

    /// Its server stops and starts again. What it only had in memory is lost. Returns whether that is when leases end:
    /// then each member has one fresh session.
    fn restart(&mut self) -> bool {
        false
    }
}

/// An error reply of what is under test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) details: Value,
}

/// The oracle, and what is compared with it.
pub(crate) struct Pair {
    pub(crate) oracle: Model,
    subject: Option<Box<dyn Subject>>,
    /// Members by the ids that the oracle gave them, and the other way round.
    to_subject: HashMap<String, String>,
    to_oracle: HashMap<String, String>,
}

/// How the replies differ.
pub(crate) struct Differs(pub(crate) String);

impl Pair {
    pub(crate) fn new(oracle: Model, subject: Option<Box<dyn Subject>>) -> Self {
        Self { oracle, subject, to_subject: HashMap::new(), to_oracle: HashMap::new() }
    }

    pub(crate) fn tick(&mut self, now: i64) {
        self.oracle.tick(now);
        if let Some(subject) = &mut self.subject {
            subject.tick(now);
        }
    }

    pub(crate) fn restart(&mut self, now: i64) {
        self.tick(now);
        if self.subject.as_mut().is_some_and(|subject| subject.restart()) {
            self.oracle.begin_sessions(now);
        }
    }

    /// Makes a call on both. Returns the oracle's answer.
    pub(crate) fn call(&mut self, now: i64, method: &str, args: &[Value]) -> Result<Answer, Differs> {
        let answer = self.oracle.call(now, method, args);
        let Some(subject) = &mut self.subject else { return Ok(answer) };
        subject.tick(now);
        let mut given = args.to_vec();
        if let Some(Value::String(member)) = given.get_mut(1)
            && let Some(known) = self.to_subject.get(member)
        {
            member.clone_from(known);
        }
        let reply = subject.call(now, method, &given);
        if let (Ok(answer), Ok(reply), "group.join") = (&answer, &reply, method) {
            self.learn(&answer["member"], &reply["member"]);
        }
        let is_same = match (&answer, &reply) {
            (Ok(answer), Ok(reply)) => self.is_same(answer, reply),
            (Err(refused), Err(failure)) => refused.code == failure.code && refused.details == failure.details,
            _ => false,
        };
        if is_same {
            return Ok(answer);
        }
        Err(Differs(format!("{method} {}\n  oracle: {answer:?}\n  tested: {reply:?}", Value::from(args.to_vec()))))
    }

    fn learn(&mut self, oracle: &Value, subject: &Value) {
        if let (Some(oracle), Some(subject)) = (oracle.as_str(), subject.as_str()) {
            self.to_subject.insert(oracle.to_owned(), subject.to_owned());
            self.to_oracle.insert(subject.to_owned(), oracle.to_owned());
        }
    }

    /// Whether two replies say the same. Ids that a server makes may differ: of members, which stand for each other, of
    /// messages, which begin with `id` in the oracle, and of entries in the audit.
    fn is_same(&self, oracle: &Value, subject: &Value) -> bool {
        match (oracle, subject) {
            (Value::Object(oracle), Value::Object(subject)) => {
                let is_same = |(name, value): (&String, &Value)| {
                    let Some(other) = subject.get(name) else { return false };
                    match (name.as_str(), other.as_str()) {
                        ("member", Some(other)) => self.to_oracle.get(other).map(String::as_str) == value.as_str(),
                        ("id", _) => true,
                        _ => self.is_same(value, other),
                    }
                };
                oracle.len() == subject.len() && oracle.iter().all(is_same)
            }
            (Value::Array(oracle), Value::Array(subject)) => {
                let is_row = oracle.len() >= 8 && oracle[0].as_str().is_some_and(|id| id.starts_with("id"));
                let skipped = usize::from(is_row);
                let mut pairs = oracle.iter().zip(subject).skip(skipped);
                oracle.len() == subject.len() && pairs.all(|(oracle, subject)| self.is_same(oracle, subject))
            }
            _ => oracle == subject,
        }
    }
}
