//! Connections: accepted within bounds, over TLS where that is configured, each with its peer's address and its end.

use std::future::Future as _;
use std::io::{Error, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_openssl::SslStream;
use tonic::transport::server::Connected;

use super::slots::{Slot, Slots};
use super::{AGE, Arrival, CALL, Observer};
use crate::http::LiveTls;

/// Connections at once.
const CONNECTIONS: usize = 512;
/// Of one address (IPv6: of one /64).
const PER_ADDRESS: usize = 64;
/// How long a TLS handshake may take, and after it HTTP/2's preface.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long is waited after the system could not accept.
const PAUSE: Duration = Duration::from_millis(100);

/// What an HTTP/2 client sends before anything else, in bytes. Whoever sent it is looked after with HTTP/2's own pings.
const PREFACE: usize = 24;

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

enum Io {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// A connection with its place and its peer.
///
/// It ends by itself: soon where no preface comes, and some time after its age, at which the client was told to make another
/// and to finish its calls.
pub(super) struct Accepted {
    io: Io,
    peer: Peer,
    /// Bytes of the preface that have not come.
    missing: usize,
    /// When it ends whatever is under way.
    end: Instant,
    /// The next of its ends.
    deadline: Pin<Box<Sleep>>,
    _slot: Slot,
}

impl Accepted {
    fn new(io: Io, peer: Peer, slot: Slot, handshake: Duration, most: Duration) -> Self {
        Self {
            io,
            peer,
            missing: PREFACE,
            end: Instant::now() + most,
            deadline: Box::pin(tokio::time::sleep(handshake)),
            _slot: slot,
        }
    }

    /// Fails once it is over; until then whoever asks is woken at that moment.
    fn lasts(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn came(&mut self, bytes: usize) {
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(bytes);
            if self.missing == 0 {
                self.deadline.as_mut().reset(self.end);
            }
        }
    }
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
        self.lasts(context)?;
        let before = buffer.filled().len();
        let read = match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        };
        self.came(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.lasts(context)?;
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.lasts(context)?;
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
    tls: Option<Arc<LiveTls>>,
    accepted: mpsc::Sender<Accepted>,
    observer: Arc<dyn Observer>,
) {
    let slots = Slots::new(CONNECTIONS, PER_ADDRESS);
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
            observer.arrived(Arrival::Refused);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (tls, accepted, observer) = (tls.clone(), accepted.clone(), observer.clone());
        tokio::spawn(async move {
            let io = match tls {
                None => Some(Io::Plain(stream)),
                Some(tls) => handshake(&tls, stream).await.map(Io::Tls),
            };
            let arrival = io
                .as_ref()
                .map_or(Arrival::HandshakeFailed, |_| Arrival::Accepted);
            observer.arrived(arrival);
            if let Some(io) = io {
                let connection = Accepted::new(io, peer, slot, HANDSHAKE, AGE + CALL);
                let _ = accepted.send(connection).await;
            }
        });
    }
}

async fn handshake(tls: &LiveTls, stream: TcpStream) -> Option<Box<SslStream<TcpStream>>> {
    let mut stream = Box::new(SslStream::new(tls.connection().ok()?, stream).ok()?);
    let shaken = tokio::time::timeout(HANDSHAKE, Pin::new(stream.as_mut()).accept()).await;
    matches!(shaken, Ok(Ok(()))).then_some(stream)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// What one read brings, as far as it is known at once.
    fn read(connection: &mut Accepted, context: &mut Context<'_>) -> Poll<Result<usize, ErrorKind>> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = Pin::new(connection).poll_read(context, &mut buffer);
        read.map(|read| read.map(|()| buffer.filled().len()).map_err(|e| e.kind()))
    }

    /// What is read of a connection over which these bytes came, and what comes of the next read: at once, or `later`.
    fn reads(
        sent: &[u8],
        (handshake, most): (Duration, Duration),
        later: bool,
    ) -> (Result<usize, ErrorKind>, Poll<Result<usize, ErrorKind>>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            client.write_all(sent).unwrap();
            let slot = Slots::new(1, 1).take(peer.ip()).unwrap();
            let mut connection = Accepted::new(Io::Plain(stream), Peer(peer.ip()), slot, handshake, most);
            let first = poll_fn(|context| read(&mut connection, context)).await;
            let then = poll_fn(|context| match read(&mut connection, context) {
                Poll::Pending if later => Poll::Pending,
                polled => Poll::Ready(polled),
            });
            (first, then.await)
        })
    }

    const OVER: Result<usize, ErrorKind> = Err(ErrorKind::TimedOut);

    #[test]
    fn a_connection_over_which_nothing_comes_ends_with_the_handshake_s_time() {
        assert_eq!(reads(b"", (Duration::ZERO, HOUR), true).0, OVER);
    }

    #[test]
    fn one_that_sent_its_preface_ends_with_its_age_and_a_beginning_is_no_preface() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let ends = (HOUR, Duration::ZERO);
        assert_eq!(reads(preface, ends, true), (Ok(PREFACE), Poll::Ready(OVER)));
        assert_eq!(reads(&preface[1..], ends, false), (Ok(23), Poll::Pending));
    }
}
