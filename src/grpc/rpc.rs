//! The three calls: from a message to the use case and back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as TowerService, http};
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::accept::Peer;
use super::messages::{
    BundleRequest, BundleResponse, OnlineSecretRequest, OnlineSecretResponse, SecretRequest, SecretResponse,
};
use super::slots::Slots;
use super::{Observer, observer, refusal, request};
use crate::http::request_id;
use crate::release::simple_kbs::Face;
use crate::release::{Host, Refusal, Service};

/// The longest message, in bytes, as the host API's longest body.
const MESSAGE: usize = 64 << 10;
/// Calls that are worked on at once.
const CALLS: usize = 64;
/// Of one address (IPv6: of one /64).
const PER_ADDRESS: usize = 16;

/// What every call needs.
#[derive(Clone)]
pub(super) struct KeyBroker {
    service: Arc<Service>,
    face: Arc<Face>,
    calls: Slots,
    observer: Arc<dyn Observer>,
}

/// A call while it is worked on.
struct InFlight(Arc<dyn Observer>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A call that came in.
struct Call<M> {
    service: Arc<Service>,
    face: Arc<Face>,
    host: Host,
    message: M,
}

impl KeyBroker {
    pub(super) fn new(service: Arc<Service>, face: Face, observer: Arc<dyn Observer>) -> Self {
        Self {
            service,
            face: Arc::new(face),
            calls: Slots::new(CALLS, PER_ADDRESS),
            observer,
        }
    }

    /// Works on a call on a thread where it may wait; beyond the bound it is turned away at once.
    async fn work<M: Send + 'static, R: Send + 'static>(
        self,
        name: &'static str,
        request: Request<M>,
        work: fn(Call<M>) -> Result<R, Status>,
    ) -> Result<Response<R>, Status> {
        let busy = || Status::new(Code::Unavailable, "not now: come back later");
        let (start, observer) = (Instant::now(), self.observer.clone());
        observer.began();
        let in_flight = InFlight(observer.clone());
        let result = async {
            let address = request.extensions().get::<Peer>().map(|peer| peer.0);
            let address: IpAddr = address.ok_or_else(refusal::denied)?;
            let slot = self.calls.take(address).ok_or_else(busy)?;
            let call = Call {
                service: self.service,
                face: self.face,
                host: Host {
                    address,
                    identity: None,
                },
                message: request.into_inner(),
            };
            let worked = tokio::task::spawn_blocking(request_id::carried(move || {
                let result = work(call);
                drop(slot);
                result
            }));
            worked.await.map_err(|_| busy())?
        };
        let id = Uuid::new_v4();
        let result = request_id::within(id, result).await;
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        log::info!(request_id:% = id; "simple-kbs {name}: {code:?}");
        drop(in_flight);
        observer.answered(name, observer::name(code), start.elapsed());
        result.map(Response::new)
    }
}

fn get_bundle(call: Call<BundleRequest>) -> Result<BundleResponse, Status> {
    let asked = request::bundle(&call.message).map_err(|e| call.malformed(&e))?;
    let answer = call.service.bundle(&call.face, &call.host, &asked);
    let answer = answer.map_err(|e| refusal::unproved(&e))?;
    Ok(BundleResponse {
        guest_owner_public_key: STANDARD.encode(answer.owner_cert.as_bytes()),
        launch_blob: STANDARD.encode(answer.session),
        launch_id: answer.id.to_string(),
    })
}

fn get_secret(call: Call<SecretRequest>) -> Result<SecretResponse, Status> {
    let (launch, asked) =
        request::secret(&call.message, &call.host, call.face.connections).map_err(|e| call.malformed(&e))?;
    let answer = call.service.secret(&call.face, &call.host, launch, &asked);
    let answer = answer.map_err(|e| refusal::proved(&e))?;
    Ok(SecretResponse {
        launch_secret_header: STANDARD.encode(answer.header),
        launch_secret_data: STANDARD.encode(answer.payload),
    })
}

fn get_online_secret(call: Call<OnlineSecretRequest>) -> Result<OnlineSecretResponse, Status> {
    let asked = request::online(&call.message).map_err(|e| call.malformed(&e))?;
    let answer = call.service.online(&call.face, &call.host, &asked);
    let answer = answer.map_err(|e| refusal::proved(&e))?;
    Ok(OnlineSecretResponse {
        payload: STANDARD.encode(answer.payload),
        iv: STANDARD.encode(answer.iv),
    })
}

impl<M> Call<M> {
    /// Counted to its address, which has to wait when that was too often.
    fn malformed(&self, error: &request::Malformed) -> Status {
        log::info!("simple-kbs: `{}` is malformed", error.0);
        refusal::unproved(&self.service.unreadable(&self.host))
    }
}

/// One call as tonic takes it.
struct Unary<M, R> {
    broker: KeyBroker,
    name: &'static str,
    work: fn(Call<M>) -> Result<R, Status>,
    /// Whether there is a message, whole and readable.
    read: Arc<AtomicBool>,
}

impl<M: Send + 'static, R: Send + 'static> TowerService<Request<M>> for Unary<M, R> {
    type Response = Response<R>;
    type Error = Status;
    type Future = BoxFuture<Response<R>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<M>) -> Self::Future {
        self.read.store(true, Ordering::Relaxed);
        Box::pin(self.broker.clone().work(self.name, request, self.work))
    }
}

/// One call, whose message is bounded. One that can't be read is counted to its address, and answered by tonic until that
/// was too often.
async fn unary<M, R>(
    broker: KeyBroker,
    name: &'static str,
    work: fn(Call<M>) -> Result<R, Status>,
    request: http::Request<Body>,
) -> http::Response<Body>
where
    M: prost::Message + Default + Send + 'static,
    R: prost::Message + Send + 'static,
{
    let codec: ProstCodec<R, M> = ProstCodec::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE);
    let (service, peer) = (
        broker.service.clone(),
        request.extensions().get::<Peer>().copied(),
    );
    let read = Arc::new(AtomicBool::new(false));
    let unary = Unary {
        broker,
        name,
        work,
        read: read.clone(),
    };
    let answer = grpc.unary(unary, request).await;
    let (false, Some(Peer(address))) = (read.load(Ordering::Relaxed), peer) else {
        return answer;
    };
    log::info!("simple-kbs {name}: the message can't be read");
    let refused = service.unreadable(&Host {
        address,
        identity: None,
    });
    match refused {
        Refusal::TooMany { .. } => refusal::unproved(&refused).into_http(),
        _ => answer,
    }
}

impl TowerService<http::Request<Body>> for KeyBroker {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<http::Response<Body>, std::convert::Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let broker = self.clone();
        Box::pin(async move {
            let answer = match request.uri().path() {
                "/keybroker.KeyBrokerService/GetBundle" => {
                    unary(broker, "GetBundle", get_bundle, request).await
                }
                "/keybroker.KeyBrokerService/GetSecret" => {
                    unary(broker, "GetSecret", get_secret, request).await
                }
                "/keybroker.KeyBrokerService/GetOnlineSecret" => {
                    unary(broker, "GetOnlineSecret", get_online_secret, request).await
                }
                _ => {
                    let code = Code::Unimplemented;
                    let observer = &broker.observer;
                    observer.answered("other", observer::name(code), Duration::ZERO);
                    Status::new(code, "there is no such call").into_http()
                }
            };
            Ok(answer)
        })
    }
}
