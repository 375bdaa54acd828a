//! `GET /metrics`, on a listener and a thread of its own: it answers when the others are busy, and has nothing else.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use actix_web::dev::ServerHandle;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, web};

use super::{REQUEST_TIMEOUT, head_or_get};

/// Connections at once.
const CONNECTIONS: usize = 64;
/// OpenMetrics as text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of the moment.
pub type Exposition = Arc<dyn Fn() -> String + Send + Sync>;

/// The listener, serving until it is dropped.
pub struct MetricsServer {
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Serves on a bound listener.
    ///
    /// # Errors
    /// When the listener can't be used, or the system gives no thread.
    pub fn start(listener: TcpListener, exposition: Exposition) -> std::io::Result<Self> {
        let (sender, started) = channel();
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async {
                    match server(listener, exposition) {
                        Ok(server) => {
                            let _ = sender.send(Ok(server.handle()));
                            if let Err(error) = server.await {
                                log::error!("metrics: the listener ended: {error}");
                            }
                        }
                        Err(error) => {
                            let _ = sender.send(Err(error));
                        }
                    }
                });
            })?;
        let gone = || std::io::Error::other("its thread ended");
        let handle = started.recv().map_err(|_| gone())??;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        // Told once it is called; the thread's own system does the rest.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("metrics: the listener ended by a panic");
        }
    }
}

fn server(listener: TcpListener, exposition: Exposition) -> std::io::Result<actix_web::dev::Server> {
    let exposition = web::Data::new(exposition);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(exposition.clone())
            .service(web::resource("/metrics").route(head_or_get().to(metrics)))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(REQUEST_TIMEOUT)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// Everything that is measured.
async fn metrics(exposition: web::Data<Exposition>) -> HttpResponse {
    let text = move || (exposition)();
    match web::block(text).await {
        Ok(text) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, OPEN_METRICS))
            .body(text),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}
