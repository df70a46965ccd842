//! The commands that talk to the prefetch daemon, against a daemon that knows one request.

use std::path::Path;
use std::process::Command;

use api::proto::prefetcher_server::{Prefetcher, PrefetcherServer};
use api::proto::{
    CancelRequest, ListReply, ListRequest, PrefetchReply, PrefetchRequest, RemoveBundleReply, RemoveBundleRequest,
    RequestState, RequestStatus, SetPriorityRequest, StatusRequest, StoredBundle, WaitCriticalReply,
    WaitCriticalRequest, WatchRequest,
};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio_stream::Iter;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::closed_stdout::run_unread;
use crate::support::{PROGRAM, run};

/// The number of the request.
const REQUEST: u64 = 17;

/// A daemon whose only request is in `state`.
struct FakeDaemon {
    state: RequestState,
}

impl FakeDaemon {
    fn status(&self, request_id: u64) -> Result<RequestStatus, Status> {
        if request_id != REQUEST {
            return Err(Status::not_found(format!("there is no request {request_id}")));
        }
        let mut status = RequestStatus { request_id, bundle_source: "store".into(), ..RequestStatus::default() };
        status.set_state(self.state);
        Ok(status)
    }
}

#[tonic::async_trait]
impl Prefetcher for FakeDaemon {
    type WatchStream = Iter<std::option::IntoIter<Result<RequestStatus, Status>>>;

    async fn prefetch(&self, _: Request<PrefetchRequest>) -> Result<Response<PrefetchReply>, Status> {
        Ok(Response::new(PrefetchReply { request_id: REQUEST }))
    }

    async fn status(&self, call: Request<StatusRequest>) -> Result<Response<RequestStatus>, Status> {
        self.status(call.into_inner().request_id).map(Response::new)
    }

    async fn watch(&self, call: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let status = self.status(call.into_inner().request_id)?;
        Ok(Response::new(tokio_stream::iter(Some(Ok(status)))))
    }

    async fn wait_critical(&self, call: Request<WaitCriticalRequest>) -> Result<Response<WaitCriticalReply>, Status> {
        let status = self.status(call.into_inner().request_id)?;
        let critical = self.state == RequestState::Done;
        Ok(Response::new(WaitCriticalReply { critical, status: Some(status) }))
    }

    async fn cancel(&self, call: Request<CancelRequest>) -> Result<Response<RequestStatus>, Status> {
        self.status(call.into_inner().request_id).map(Response::new)
    }

    async fn set_priority(&self, call: Request<SetPriorityRequest>) -> Result<Response<RequestStatus>, Status> {
        let call = call.into_inner();
        Ok(Response::new(RequestStatus { priority: call.priority, ..self.status(call.request_id)? }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let bundles = vec![StoredBundle::default()];
        Ok(Response::new(ListReply { requests: vec![self.status(REQUEST)?], bundles, damaged_bundles: 0 }))
    }

    async fn remove_bundle(&self, call: Request<RemoveBundleRequest>) -> Result<Response<RemoveBundleReply>, Status> {
        let image = call.into_inner().image.unwrap_or_default();
        Ok(Response::new(RemoveBundleReply { removed_bundles: u64::from(image.reference == "r/i:t") }))
    }
}

/// Serves on `socket` until the runtime ends.
fn serve(socket: &Path, state: RequestState) {
    let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let server = Server::builder().add_service(PrefetcherServer::new(FakeDaemon { state }));
    tokio::spawn(server.serve_with_incoming(listener));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_sent_shown_and_changed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("d.sock");
    serve(&socket, RequestState::Done);
    let socket = socket.to_str().unwrap();
    let prefetch = ["prefetch", "r/i:t", "--no-registry"];
    for (arguments, code, expected) in [
        (&prefetch[..], 0, "request 17: done, "),
        (&[&prefetch[..], &["--critical"]].concat(), 0, "request 17: done, "),
        (&[&prefetch[..], &["--no-wait"]].concat(), 0, "request 17\n"),
        (&[&prefetch[..], &["--no-wait", "--json"]].concat(), 0, "\"request_id\": 17"),
        (&["status"], 0, "requests: 1\nrequest 17: done, "),
        (&["status", "17"], 0, "  bundle from: store, lookup "),
        (&["status", "17", "--watch"], 0, "request 17: done"),
        (&["status", "18"], 1, "there is no request 18"),
        (&["cancel", "17"], 0, "request 17: done, "),
        (&["priority", "17", "high"], 0, "request 17: done, priority high\n"),
        (&["store", "rm", "r/i:t"], 0, "1 removed"),
        (&["store", "rm", "r/i:other"], 3, "0 removed"),
    ] {
        let arguments = [arguments, &["--socket", socket]].concat();
        let (found, text) = run(&arguments);
        assert!(found == code && text.contains(expected), "{arguments:?}: {found}\n{text}");
        let unread = run_unread(&arguments);
        // The verdict of a wait is lost with its text: as with `head`, the program ends with success.
        assert!(unread.status.success() || code == 1, "{arguments:?}: {unread:?}");
        assert_eq!(unread.stderr.is_empty(), code != 1, "{arguments:?}: {unread:?}");
    }
    let (_, text) = run(&["status", "--json", "--socket", socket]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["requests"][0]["state"], &json["stored_bundles"]), (&"done".into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_request_is_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    for (state, code) in [
        (RequestState::Done, 0),
        (RequestState::NoBundle, 3),
        (RequestState::Failed, 4),
        (RequestState::Cancelled, 5),
        (RequestState::Deadline, 5),
    ] {
        let socket = directory.path().join(format!("{code}-{}.sock", state.name()));
        serve(&socket, state);
        for arguments in [&["prefetch", "r/i:t", "--no-registry"][..], &["status", "17", "--watch"]] {
            let status = Command::new(PROGRAM).args(arguments).arg("--socket").arg(&socket).output().unwrap().status;
            assert_eq!(status.code(), Some(code), "{arguments:?}, {state:?}");
        }
    }
}
