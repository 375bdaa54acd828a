//! Connections: accepted within bounds, over TLS where that is configured, each with its peer's address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use openssl::ssl::{Ssl, SslAcceptor};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_openssl::SslStream;
use tonic::transport::server::Connected;

use crate::release::Host;

/// Connections at once.
const CONNECTIONS: usize = 512;
/// Of one address (IPv6: of one /64).
const PER_ADDRESS: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long is waited after the system could not accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// How many connections each address has.
#[derive(Clone, Default)]
struct Slots(Arc<Mutex<HashMap<String, usize>>>);

/// A place that a connection has; given back when it is dropped.
struct Slot {
    slots: Slots,
    bucket: String,
}

impl Slots {
    fn take(&self, peer: IpAddr) -> Option<Slot> {
        let bucket = Host {
            address: peer,
            identity: None,
        }
        .bucket();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= CONNECTIONS {
            return None;
        }
        let own = taken.entry(bucket.clone()).or_default();
        if *own >= PER_ADDRESS {
            return None;
        }
        *own += 1;
        drop(taken);
        Some(Slot {
            slots: self.clone(),
            bucket,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.bucket) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.bucket);
            }
        }
    }
}

enum Io {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// A connection with its place and its peer.
pub(super) struct Accepted {
    io: Io,
    peer: Peer,
    _slot: Slot,
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}

/// Accepts until nobody takes what is accepted. One that is beyond the bounds is closed at once; a handshake holds up
/// nobody else.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<SslAcceptor>,
    accepted: mpsc::Sender<Accepted>,
) {
    let slots = Slots::default();
    let tls = tls.map(Arc::new);
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            () = accepted.closed() => return,
        };
        let (stream, peer) = match next {
            Ok(next) => next,
            Err(error) => {
                // Out of descriptors, as a rule: others must be given the time to close.
                log::warn!("simple-kbs: a connection could not be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let peer = Peer(peer.ip().to_canonical());
        let Some(slot) = slots.take(peer.0) else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let io = match tls {
                None => Some(Io::Plain(stream)),
                Some(tls) => handshake(&tls, stream).await.map(Io::Tls),
            };
            if let Some(io) = io {
                let _ = accepted
                    .send(Accepted {
                        io,
                        peer,
                        _slot: slot,
                    })
                    .await;
            }
        });
    }
}

async fn handshake(tls: &SslAcceptor, stream: TcpStream) -> Option<Box<SslStream<TcpStream>>> {
    let ssl = Ssl::new(tls.context()).ok()?;
    let mut stream = Box::new(SslStream::new(ssl, stream).ok()?);
    let shaken = tokio::time::timeout(HANDSHAKE, Pin::new(stream.as_mut()).accept()).await;
    matches!(shaken, Ok(Ok(()))).then_some(stream)
}
