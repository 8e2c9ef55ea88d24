//! How a connection follows orders: the one place where a connection drains or is cut.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::vitals::{Order, Vitals};

/// Looks at the orders to a connection, each time that its task is polled. It registers the task's waker once, because the
/// waker stays the same.
struct Listener<'a> {
    vitals: &'a Vitals,
    /// What `vitals` wakes.
    waker: Option<Waker>,
}

impl Listener<'_> {
    /// The present order. The waker's task is woken by the next one.
    fn order(&mut self, waker: &Waker) -> Order {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.vitals.listen(waker);
            self.waker = Some(waker.clone());
        }
        self.vitals.told()
    }
}

/// Polls a connection to its end; `None` if it was cut before. `drain` is called once, when the connection is told to
/// finish what is in progress.
pub(super) async fn drive<C, T>(
    vitals: &Vitals,
    connection: &mut C,
    drain: impl Fn(&mut C),
    mut poll: impl FnMut(&mut C, &mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let mut is_draining = false;
    let mut listener = Listener { vitals, waker: None };
    poll_fn(|cx| {
        match listener.order(cx.waker()) {
            Order::None => {}
            Order::Drain if std::mem::replace(&mut is_draining, true) => {}
            Order::Drain => drain(connection),
            Order::Cut => return Poll::Ready(None),
        }
        poll(connection, cx).map(Some)
    })
    .await
}

/// Awaits something that a new connection needs. `None` if the connection is told to end before: it has nothing in
/// progress that it could finish.
pub(super) async fn unless_told<T>(vitals: &Vitals, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut listener = Listener { vitals, waker: None };
    poll_fn(|cx| match listener.order(cx.waker()) {
        Order::None => future.as_mut().poll(cx).map(Some),
        Order::Drain | Order::Cut => Poll::Ready(None),
    })
    .await
}
