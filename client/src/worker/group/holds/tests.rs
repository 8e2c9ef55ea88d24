use super::*;
use crate::group::{GroupMessage, RetryMessage};
use crate::message::tests::message;

const SESSION_MS: i64 = 1000;

fn epoch(number: i64) -> Epoch {
    Epoch::from_number(number)
}

fn assigned(epochs: &[(u32, i64)]) -> Vec<Assigned> {
    let of = |&(partition, number): &(u32, i64)| Assigned { partition, epoch: epoch(number), checkpoint: 0 };
    epochs.iter().map(of).collect()
}

fn lists<'a>(generation: i64, assigned: &'a [Assigned], revoking: &'a [Revoking]) -> Lists<'a> {
    Lists { generation, session_ms: SESSION_MS, assigned, revoking }
}

/// Partition 0 under epoch 1.
fn holds() -> Holds {
    let mut holds = Holds::new(Instant::now());
    assert!(holds.take_lists(Instant::now(), &lists(1, &assigned(&[(0, 1)]), &[])));
    holds
}

fn asked(holds: &Holds) -> Asked {
    let (checkpoints, after) = (holds.checkpoints(), holds.after());
    Asked { started: Instant::now(), checkpoints, released: BTreeMap::new(), after, parked: Vec::new() }
}

fn page(messages: &[(i64, &str)], retries: &[(i64, &str, i64)], up_to: i64) -> GroupPage {
    let row = |position: i64, stream: &str| message(stream, position, position, "null");
    GroupPage {
        generation: 1,
        session_ms: SESSION_MS,
        messages: messages.iter().map(|(at, s)| GroupMessage { message: row(*at, s), partition: 0 }).collect(),
        retries: retries
            .iter()
            .map(|(at, s, rev)| RetryMessage { message: row(*at, s), partition: 0, attempt: 2, rev: *rev })
            .collect(),
        drained: Vec::new(),
        up_to: BTreeMap::from([(0, up_to)]),
        assigned: assigned(&[(0, 1)]),
        revoking: Vec::new(),
        fenced: Vec::new(),
    }
}

fn read(holds: &mut Holds, page: GroupPage) {
    let asked = asked(holds);
    holds.take_page(&asked, page);
}

fn begin(holds: &mut Holds) -> Task {
    let task = holds.next(false).expect("a message");
    holds.begin(&task, Busy::Call);
    task
}

fn checkpoint(holds: &Holds) -> Option<i64> {
    holds.checkpoints().get(&0).map(|presented| presented.position)
}

#[test]
fn a_checkpoint_ends_before_the_first_message_in_hand() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a"), (3, "b"), (4, "a")], &[], 9));
    assert_eq!(checkpoint(&holds), Some(1));
    let (first, second) = (begin(&mut holds), begin(&mut holds));
    assert_eq!((first.position(), second.position()), (2, 3), "of different streams");
    assert!(holds.next(false).is_none(), "the stream a is busy");
    holds.finished(&second);
    assert_eq!(checkpoint(&holds), Some(1));
    holds.finished(&first);
    assert_eq!(checkpoint(&holds), Some(3));
    let last = begin(&mut holds);
    holds.finished(&last);
    assert_eq!((checkpoint(&holds), holds.is_idle()), (Some(9), true));
    let asked = asked(&holds);
    holds.stored(&asked, &[0]);
    assert_eq!(checkpoint(&holds), Some(9), "the server refused it");
    holds.stored(&asked, &[]);
    assert_eq!(checkpoint(&holds), None);
}

#[test]
fn one_at_a_time_is_in_the_order_of_the_partition() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a"), (3, "b")], &[], 3));
    let task = begin(&mut holds);
    assert!(holds.next(true).is_none());
    holds.committed(&task);
    assert_eq!(checkpoint(&holds), None, "the commit has stored it");
    assert_eq!(holds.next(true).map(|task| task.position()), Some(3));
}

#[test]
fn a_reply_that_was_overtaken_changes_nothing() {
    let mut holds = holds();
    assert!(holds.take_lists(Instant::now(), &lists(3, &assigned(&[(0, 1), (1, 2)]), &[])));
    assert!(!holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 1)]), &[])));
    assert_eq!(holds.after().len(), 2);
    let late = asked(&holds);
    read(&mut holds, page(&[(2, "a")], &[], 2));
    holds.take_page(&late, page(&[(2, "a"), (3, "a")], &[], 3));
    assert_eq!(holds.in_hand(), 2, "what was read before is not taken twice");
}

#[test]
fn a_new_epoch_is_a_new_assignment() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a")], &[], 5));
    let task = begin(&mut holds);
    assert!(holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 7)]), &[])));
    assert_eq!((holds.in_hand(), holds.after()[&0].position), (0, 0), "it begins at the checkpoint");
    holds.finished(&task);
    assert_eq!(checkpoint(&holds), None, "the former assignment moves nothing");
    holds.fence(0, epoch(7));
    assert!(holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 7)]), &[])));
    assert!(!holds.has_partitions(), "an epoch that is over stays so");
}

#[test]
fn what_is_asked_back_ends_behind_the_last_message_that_was_begun() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "a")], &[], 9));
    let (first, second) = (begin(&mut holds), begin(&mut holds));
    assert_eq!((first.position(), second.position()), (2, 4));
    let revoking = [Revoking { partition: 0, epoch: epoch(1), deadline_ms: 500 }];
    assert!(holds.take_lists(Instant::now(), &lists(2, &[], &revoking)));
    assert!(holds.release().is_empty() && !holds.can_release());
    holds.finished(&second);
    holds.finished(&first);
    let between = begin(&mut holds);
    assert_eq!(between.position(), 3, "it lies below one that was handled");
    assert!(holds.next(false).is_none());
    holds.finished(&between);
    assert_eq!((checkpoint(&holds), holds.can_release()), (Some(4), true));
    assert_eq!(holds.release(), BTreeMap::from([(0, epoch(1))]));
    assert!(!holds.can_release(), "it was said");
    holds.not_told(&Asked { released: BTreeMap::from([(0, epoch(1))]), ..asked(&holds) });
    assert!(holds.can_release() && holds.next(false).is_none(), "the server does not know, but it is given up");
    assert_eq!(holds.release(), BTreeMap::from([(0, epoch(1))]));
    assert!(holds.take_lists(Instant::now(), &lists(3, &[], &[])));
    assert!(holds.checkpoints().is_empty());
}

#[test]
fn a_deadline_ends_what_is_in_hand() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a")], &[], 9));
    begin(&mut holds);
    let revoking = [Revoking { partition: 0, epoch: epoch(1), deadline_ms: 500 }];
    let started = Instant::now();
    assert!(holds.take_lists(started, &lists(2, &[], &revoking)));
    assert_eq!(holds.next_deadline(), Some(started + Duration::from_millis(500)));
    holds.expire(started + Duration::from_millis(499));
    assert_eq!(holds.in_hand(), 1);
    holds.expire(started + Duration::from_millis(500));
    assert!(holds.take_lists(started, &lists(2, &[], &revoking)));
    assert_eq!((holds.in_hand(), holds.next_deadline()), (0, None));
}

#[test]
fn a_parked_stream_is_dropped_also_from_a_read_that_was_sent_before() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a"), (3, "a"), (4, "b")], &[], 4));
    let task = begin(&mut holds);
    let mut under_way = asked(&holds);
    under_way.parked.push((epoch(1), "a".to_owned(), 2));
    holds.parked(&task);
    assert_eq!((holds.in_hand(), checkpoint(&holds)), (1, Some(3)));
    holds.take_page(&under_way, page(&[(5, "a"), (6, "b")], &[], 6));
    let left: Vec<i64> = std::iter::from_fn(|| {
        let task = holds.next(false)?;
        holds.begin(&task, Busy::Call);
        holds.finished(&task);
        Some(task.position())
    })
    .collect();
    assert_eq!((left, checkpoint(&holds)), (vec![4, 6], Some(6)));
}

#[test]
fn retries_are_tried_in_order_and_taken_once() {
    let mut holds = holds();
    read(&mut holds, page(&[], &[(2, "a", 5), (3, "a", 5)], 9));
    let task = begin(&mut holds);
    assert_eq!((task.position(), task.retry), (2, Some((2, 5))));
    read(&mut holds, page(&[], &[(2, "a", 6)], 9));
    assert!(holds.next(false).is_none(), "the stream is in hand");
    holds.settled(0, epoch(1), "a", 2, Flowing { flowing: false, rev: Some(7) });
    let next = begin(&mut holds);
    assert_eq!((next.position(), next.retry), (3, Some((2, 7))));
    holds.settled(0, epoch(1), "a", 2, Flowing { flowing: true, rev: Some(8) });
    assert!(holds.is_idle(), "what is left was skipped");
    assert_eq!(checkpoint(&holds), Some(9), "retries do not hold it up");
}

#[test]
fn retries_take_room_and_hold_up_no_checkpoint() {
    let mut holds = holds();
    read(&mut holds, page(&[(4, "b")], &[(2, "a", 5), (3, "a", 5)], 9));
    assert_eq!((holds.in_hand(), holds.is_all_done()), (3, false));
    let retry = begin(&mut holds);
    let message = begin(&mut holds);
    assert_eq!((retry.position(), message.position(), holds.in_hand()), (2, 4, 3));
    holds.finished(&message);
    assert_eq!((holds.in_hand(), holds.is_all_done()), (2, true));
    holds.settled(0, epoch(1), "a", 2, Flowing { flowing: true, rev: Some(6) });
    assert_eq!(holds.in_hand(), 0);
}

#[test]
fn a_reply_that_was_overtaken_does_not_put_off_the_end_of_the_lease() {
    let mut holds = holds();
    let started = Instant::now() + Duration::from_millis(100);
    let assigned = assigned(&[(0, 1)]);
    let shorter = Lists { session_ms: 300, ..lists(1, &assigned, &[]) };
    assert!(holds.take_lists(started + Duration::from_millis(500), &shorter));
    assert!(holds.take_lists(started, &lists(1, &assigned, &[])));
    assert_eq!(holds.lease_end(), started + Duration::from_millis(1000), "the longer session counts from its own call");
    assert_eq!(holds.session(), Duration::from_millis(300));
    assert!(holds.take_lists(started + Duration::from_millis(900), &shorter));
    assert_eq!(holds.lease_end(), started + Duration::from_millis(1200));
}

#[test]
fn a_message_that_is_put_off_is_tried_again() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a")], &[], 9));
    let task = begin(&mut holds);
    holds.postponed(&task);
    assert_eq!(checkpoint(&holds), Some(1));
    assert_eq!(begin(&mut holds).position(), 2);
    holds.dropped(&task);
    assert_eq!(checkpoint(&holds), Some(9));
}

#[tokio::test]
async fn nothing_of_a_stream_is_begun_while_a_handler_of_a_former_epoch_runs() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a"), (3, "b")], &[], 3));
    let task = holds.next(false).expect("a message");
    let handler = tokio::spawn(std::future::pending::<()>());
    holds.begin(&task, Busy::Handler(Abort(handler.abort_handle())));
    assert!(holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 7)]), &[])));
    assert!(handler.await.expect_err("it is aborted").is_cancelled());
    let again = GroupPage { assigned: assigned(&[(0, 7)]), ..page(&[(2, "a"), (3, "b")], &[], 3) };
    read(&mut holds, again);
    assert_eq!(holds.next(false).map(|task| task.position()), Some(3), "of the other stream");
    assert!(holds.next(true).is_none(), "the commit of 3 would say that 2 is done");
    let revoking = [Revoking { partition: 0, epoch: epoch(7), deadline_ms: 500 }];
    assert!(holds.take_lists(Instant::now(), &lists(3, &[], &revoking)));
    assert!(holds.release().is_empty() && !holds.can_release(), "the handler may still act");
    holds.handler_ended(&task);
    assert_eq!(holds.release(), BTreeMap::from([(0, epoch(7))]));
}

#[test]
fn a_handler_knows_until_when_it_may_act() {
    let mut holds = holds();
    read(&mut holds, page(&[(2, "a")], &[], 2));
    let task = begin(&mut holds);
    let started = Instant::now() + Duration::from_millis(300);
    assert!(holds.take_lists(started, &lists(1, &assigned(&[(0, 1)]), &[])));
    assert_eq!(*task.until.borrow(), started + Duration::from_millis(1000), "the lease goes on");
    let revoking = [Revoking { partition: 0, epoch: epoch(1), deadline_ms: 500 }];
    assert!(holds.take_lists(started, &lists(2, &[], &revoking)));
    assert_eq!(*task.until.borrow(), started + Duration::from_millis(500), "it is asked back");
}
