//! gRPC: the service of simple-kbs, for its clients, on the release flow that everybody else has.
//!
//! Bytes from anybody come in on a listener of its own, leave as parsed requests, and what is answered says no more than
//! it must. Everything that takes time runs on threads of their own; messages, connections and calls are bounded.

mod accept;
pub mod messages;
mod observer;
mod refusal;
mod request;
mod rpc;
mod slots;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport;

use crate::http::LiveTls;
use crate::release::Service;
use crate::release::simple_kbs::Face;
use rpc::KeyBroker;

pub use observer::{Arrival, NoObserver, Observer};

/// How long one call may take, its message included.
const CALL: Duration = Duration::from_secs(30);
/// How long a connection lasts; who wants more makes another. Calls under way then may end.
const AGE: Duration = Duration::from_secs(300);
/// How long calls under way are waited for when the service ends and nobody says how long.
const GRACE: Duration = Duration::from_secs(10);
/// Calls at once on one connection.
const STREAMS: u32 = 8;
/// What is buffered of one connection, in bytes.
const WINDOW: u32 = 128 << 10;
/// The longest head of a call, in bytes.
const HEADERS: u32 = 8 << 10;
/// Threads on which calls wait.
const THREADS: usize = 64;

/// The service, serving.
pub struct Server {
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<()>>,
}

/// Why it can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener can't be, or there are no threads.
    #[error("the listener can't be used: {0}")]
    Io(#[from] std::io::Error),
}

impl Server {
    /// Serves on a bound listener until it is stopped or dropped.
    ///
    /// # Errors
    /// When the listener can't be used.
    pub fn start(
        listener: TcpListener,
        tls: Option<Arc<LiveTls>>,
        service: Arc<Service>,
        face: Face,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ServeError> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(THREADS)
            .thread_name("simple-kbs")
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let broker = KeyBroker::new(service, face, observer.clone());
        let thread = std::thread::Builder::new()
            .name("simple-kbs".to_owned())
            .spawn(move || {
                let left = runtime.block_on(serve(listener, tls, broker, observer, stopped));
                runtime.shutdown_timeout(left);
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What tells it from any thread to take no more calls, and how long those under way have to end. It does not wait.
    pub fn ending(&mut self) -> impl FnOnce(Duration) + Send + use<> {
        let stop = self.stop.take();
        move |grace| {
            if let Some(stop) = stop {
                let _ = stop.send(grace);
            }
        }
    }

    /// Takes no more calls, and waits a bounded time for those under way.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.ending()(GRACE);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("simple-kbs: the service ended by a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves until it is told to stop; how long its threads have to end then.
async fn serve(
    listener: tokio::net::TcpListener,
    tls: Option<Arc<LiveTls>>,
    broker: KeyBroker,
    observer: Arc<dyn Observer>,
    stopped: oneshot::Receiver<Duration>,
) -> Duration {
    let (sender, accepted) = mpsc::channel(16);
    let accepting = tokio::spawn(accept::accept(listener, tls, sender, observer));
    let incoming =
        tonic::codegen::tokio_stream::StreamExt::map(ReceiverStream::new(accepted), Ok::<_, std::io::Error>);
    let (ending, ended) = oneshot::channel::<()>();
    let serving = transport::Server::builder()
        .timeout(CALL)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(HEADERS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        // With tonic's own grace the client would be told nothing: the connection would be cut.
        .max_connection_age(AGE)
        .serve_with_incoming_shutdown(broker, incoming, async move {
            let _ = ended.await;
        });
    let mut serving = std::pin::pin!(serving);
    let (result, left) = tokio::select! {
        result = &mut serving => (result, GRACE),
        grace = stopped => {
            accepting.abort();
            drop(ending);
            let end = tokio::time::Instant::now() + grace.unwrap_or(GRACE);
            // What is not done by then is cut off: it was not answered, and is asked again.
            let result = tokio::time::timeout_at(end, serving).await.unwrap_or(Ok(()));
            (result, end.saturating_duration_since(tokio::time::Instant::now()))
        }
    };
    if let Err(error) = result {
        log::error!("simple-kbs: the service ended: {error}");
    }
    left
}
