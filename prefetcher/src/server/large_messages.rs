//! One large message at a time.
//!
//! A message is in memory as a whole before its call is looked at, and one with a bundle can be large. So a message that exceeds
//! [`SMALL`] waits for its turn before more of it is received, and keeps the turn until its bundle is decoded. Until then the
//! sender is slowed down by HTTP/2. Small messages never wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tower::{Layer, Service};

/// Messages of at most this many bytes are received at once.
const SMALL: usize = 16 << 10;
/// Maximum time for the rest of a large message. Others wait meanwhile.
const MAX_TIME: Duration = Duration::from_secs(30);

/// Limits the large messages of all calls to one at a time. Clones share the limit.
#[derive(Debug, Clone)]
pub(super) struct LargeMessages {
    turns: Arc<Semaphore>,
}

/// The turn of a call's message, if it is large. The call has it among its extensions; its end is the end of the turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// A service whose large messages take turns.
#[derive(Debug, Clone)]
pub(super) struct InTurn<S> {
    inner: S,
    turns: Arc<Semaphore>,
}

/// The body of a call.
struct Limited {
    body: Body,
    received: usize,
    turns: PollSemaphore,
    turn: Turn,
    /// Set with the turn.
    end: Option<Pin<Box<Sleep>>>,
    max_time: Duration,
}

impl LargeMessages {
    /// No message is received yet.
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(1)) }
    }
}

impl<S> Layer<S> for LargeMessages {
    type Service = InTurn<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InTurn { inner, turns: self.turns.clone() }
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for InTurn<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let turn = Turn::default();
        head.extensions.insert(turn.clone());
        let limited = Limited::new(body, self.turns.clone(), turn, MAX_TIME);
        self.inner.call(Request::from_parts(head, Body::new(limited)))
    }
}

impl Limited {
    fn new(body: Body, turns: Arc<Semaphore>, turn: Turn, max_time: Duration) -> Self {
        Self { body, received: 0, turns: PollSemaphore::new(turns), turn, end: None, max_time }
    }
}

impl HttpBody for Limited {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if self.received > SMALL && self.end.is_none() {
            *self.turn.held.lock() = ready!(self.turns.poll_acquire(context));
            self.end = Some(Box::pin(tokio::time::sleep(self.max_time)));
        }
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            let reason = format!("the message did not arrive within {} s", self.max_time.as_secs());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(reason))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.received += frame.data_ref().map_or(0, |data| data.len());
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::StreamExt;
    use futures::channel::mpsc;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Bytes;

    use super::*;

    /// A body that receives what is sent.
    fn body(layer: &LargeMessages, max_time: Duration) -> (mpsc::UnboundedSender<usize>, Turn, Limited) {
        let (sender, sizes) = mpsc::unbounded::<usize>();
        let frames = sizes.map(|size| Ok::<_, Status>(Frame::data(Bytes::from(vec![0; size]))));
        let turn = Turn::default();
        let body = Body::new(StreamBody::new(frames));
        (sender, turn.clone(), Limited::new(body, layer.turns.clone(), turn, max_time))
    }

    #[tokio::test]
    async fn large_messages_take_turns_and_small_ones_do_not() {
        let layer = LargeMessages::new();
        let (first, turn, mut one) = body(&layer, MAX_TIME);
        let (second, _other_turn, mut two) = body(&layer, MAX_TIME);
        let (third, _, mut small) = body(&layer, MAX_TIME);
        for sender in [&first, &second] {
            (0..3).for_each(|_| sender.unbounded_send(SMALL).unwrap());
        }
        // The second frame exceeds what is small, the third needs the turn.
        for _ in 0..3 {
            one.frame().await.unwrap().unwrap();
        }
        for _ in 0..2 {
            two.frame().await.unwrap().unwrap();
        }
        let mut waits = Box::pin(two.frame());
        assert!(futures::poll!(&mut waits).is_pending());
        third.unbounded_send(SMALL).unwrap();
        small.frame().await.unwrap().unwrap();
        // The first was received, but its bundle is not decoded yet.
        drop(one);
        assert!(futures::poll!(&mut waits).is_pending());
        drop(turn);
        waits.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_message_that_takes_too_long_ends() {
        let layer = LargeMessages::new();
        let (sender, _turn, mut body) = body(&layer, Duration::ZERO);
        (0..2).for_each(|_| sender.unbounded_send(SMALL).unwrap());
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
    }
}
