//! Conditions on messages that are in memory no more: what is asked of the storage for them.

use eventodb_protocol::request::Check;
use eventodb_protocol::{Condition, Matching};

use super::*;

/// A log of which nothing is in the tail but what was written since [`Old::leave`].
struct Old {
    writer: Arc<Writer>,
    storage: Arc<Failing>,
    _backend: Arc<Sqlite>,
}

impl Old {
    async fn new() -> Self {
        let (writer, storage, backend) = writer().await;
        Self { writer, storage, _backend: backend }
    }

    async fn write(&self, stream: &str, kinds: impl IntoIterator<Item = String>) {
        let message = |kind: String| NewMessage { id: None, kind: kind.into(), data: "{}".into(), metadata: None };
        let mut append = append(stream);
        append.entries[0].messages = kinds.into_iter().map(message).collect();
        self.writer.append(append, &Allowed::Any).await.expect("nothing is in the way");
    }

    /// Nothing of what was written is in memory any more.
    fn leave(&self) {
        self.writer.base.window.skip_to(self.head());
    }

    fn head(&self) -> i64 {
        self.writer.base.window.head()
    }

    /// Whether an append passes whose condition is that there is no such message above `after`, and how often the
    /// storage was read for it.
    async fn tries(&self, matching: Matching, after: i64) -> (bool, usize) {
        let before = self.storage.reads.load(SeqCst);
        let check = Check::Condition(Condition { matching, after: Some(after) });
        let tried = Append { checks: vec![check], ..append("tried-1") };
        let outcome = self.writer.append(tried, &Allowed::Any).await;
        let reads = self.storage.reads.load(SeqCst) - before;
        match outcome {
            Ok(_) => (true, reads),
            Err(Error::ConditionFailed(_)) => (false, reads),
            Err(error) => panic!("{error}"),
        }
    }

    /// Tries until memory answers.
    async fn until_known(&self, after: i64) {
        let known = async {
            while self.tries(of_type("Never"), after).await.1 > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), known).await.expect("a survey is made and ends");
    }
}

fn of_type(kind: &str) -> Matching {
    Matching::default().types([kind])
}

fn kinds(kind: &str, count: usize) -> impl Iterator<Item = String> {
    std::iter::repeat_n(kind.to_owned(), count)
}

#[tokio::test]
async fn conditions_on_old_messages_are_answered_from_memory_in_the_end() {
    let old = Old::new().await;
    old.write("a-1", kinds("T", 50)).await;
    old.write("b-1", kinds("U", 1)).await;
    old.write("a-1", kinds("T", 49)).await;
    old.leave();
    assert_eq!(old.tries(of_type("Never"), 20).await, (true, 1), "the storage is searched at first");
    old.until_known(20).await;
    for (matching, after, passes) in [
        (of_type("T"), 99, false),
        (of_type("T"), 100, true),
        (of_type("U"), 50, false),
        (of_type("U"), 51, true),
        (Matching::categories(["a"]).types(["U"]), 20, true),
        (Matching::categories(["b"]), 30, false),
    ] {
        assert_eq!(old.tries(matching.clone(), after).await, (passes, 0), "{matching:?} after {after}");
    }
    // What is written from now on counts, also once it is in memory no more.
    old.write("c-1", kinds("New", 1)).await;
    assert_eq!(old.tries(of_type("New"), 20).await, (false, 0));
    old.leave();
    assert_eq!(old.tries(of_type("New"), 20).await, (false, 0));
    assert!(!old.tries(of_type("U"), 20).await.0);
}

#[tokio::test]
async fn a_survey_goes_on_to_both_sides() {
    let old = Old::new().await;
    old.write("a-1", kinds("First", 1)).await;
    old.write("a-1", kinds("T", 60)).await;
    old.leave();
    old.until_known(40).await;
    let (is_free, reads) = old.tries(of_type("First"), 0).await;
    assert!(!is_free && reads > 0, "it lies below what is known");
    old.until_known(0).await;
    assert_eq!(old.tries(of_type("First"), 0).await, (false, 0));
    // Messages that come and leave the memory between two conditions.
    old.write("a-1", kinds("T", 30)).await;
    old.write("a-1", kinds("Late", 1)).await;
    old.write("a-1", kinds("T", 30)).await;
    old.leave();
    let (is_free, reads) = old.tries(of_type("Late"), 0).await;
    assert!(!is_free && reads > 0, "it lies above what is known");
    old.until_known(0).await;
    assert_eq!(old.tries(of_type("Late"), 0).await, (false, 0));
    assert_eq!(old.tries(of_type("First"), 0).await, (false, 0));
    assert!(old.tries(of_type("Never"), 0).await.0);
}

#[tokio::test]
async fn nothing_is_known_of_a_log_that_may_have_gone_back() {
    let old = Old::new().await;
    old.write("a-1", kinds("T", 60)).await;
    old.leave();
    old.until_known(0).await;
    old.writer.base.survey.forget();
    old.leave();
    assert_eq!(old.tries(of_type("T"), 0).await, (false, 1));
}

#[tokio::test]
async fn a_log_of_too_many_types_is_searched() {
    let old = Old::new().await;
    for part in 0..17 {
        old.write("a-1", (0..1000).map(|number| format!("T{part}-{number}"))).await;
    }
    old.leave();
    let tried = async {
        while !old.writer.base.survey.is_given_up() {
            assert!(old.tries(of_type("Never"), 0).await.0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), tried).await.expect("a survey is tried");
    old.leave();
    let (is_free, reads) = old.tries(of_type("T3-7"), 0).await;
    assert!(!is_free && reads > 0);
}
