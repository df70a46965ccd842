//! The stream of Watch: a request's status at an interval, until the request has ended.

use std::sync::Arc;
use std::time::Duration;

use api::proto::{RequestState, RequestStatus};
use futures::{Stream, stream};
use tonic::Status;

use crate::request::Request;

/// What the stream does next.
enum Next {
    Now,
    AfterInterval,
    /// The last status was sent.
    End,
}

/// The status now, after each interval, and at the end.
pub(super) fn statuses(
    request: Arc<Request>,
    interval: Duration,
) -> impl Stream<Item = Result<RequestStatus, Status>> + Send {
    stream::unfold((request, Next::Now), move |(request, next)| async move {
        let status = match next {
            Next::Now => request.status(),
            Next::AfterInterval => match tokio::time::timeout(interval, request.ended()).await {
                Ok(last) => last,
                Err(_) => request.status(),
            },
            Next::End => return None,
        };
        let next = if status.state() == RequestState::Running { Next::AfterInterval } else { Next::End };
        Some((Ok(status), (request, next)))
    })
}
