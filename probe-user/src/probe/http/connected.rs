//! Reports when the connection of a run is established, which the client does not show.
//!
//! A host that does not accept and a service that accepts but does not respond are two different faults; only
//! this moment distinguishes them when a run times out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use crate::probe::progress::{Connection, Waiting};

tokio::task_local! {
    /// The run that the task at hand makes. A client without a pool connects inside the task that requests.
    static RUN: Arc<Waiting>;
}

/// Makes `request`, and notes in `waiting` when it is connected.
pub(super) async fn noting<F: Future>(waiting: &Arc<Waiting>, request: F) -> F::Output {
    waiting.set("the connection to be made");
    RUN.scope(Arc::clone(waiting), request).await
}

/// The layer around the client's connector.
#[derive(Clone, Debug)]
pub(super) struct NoteConnected;

impl<S> Layer<S> for NoteConnected {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector(inner)
    }
}

/// A connector that notes when it is done.
#[derive(Clone, Debug)]
pub(super) struct Connector<S>(S);

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await;
            if connection.is_ok() {
                // Outside of a run there is nothing to note.
                let _ = RUN.try_with(|waiting| {
                    waiting.set("the response on an open connection");
                    waiting.connection(Connection::Made);
                });
            }
            connection
        })
    }
}
