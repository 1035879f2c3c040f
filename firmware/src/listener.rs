//! A listener that no crowd can use up: a bounded number of connections at a time, no more than half of them from one
//! address, and none that stays silent for long. What is left over belongs to the store and the encoder; one idle viewer
//! too many must not end the broadcast, and one machine must not keep all others out.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// Longer than a player waits between two requests, and than a slow one needs for a segment.
const SILENCE: Duration = Duration::from_secs(120);

/// After an accept that failed, usually for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes all the file descriptors that the system allows: the default of 1024 is for programs of another time, and
/// GStreamer 1.22 keeps five for each card that is pulled out (`forty_times_out_and_in_again`).
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[derive(Debug)]
pub(crate) struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    guests: Guests,
    sent: fn(usize),
}

impl Limited {
    /// At most `connections` at a time; more wait in the kernel's queue. Half of them may come from one address, for a crowd
    /// behind one router or proxy; what it opens beyond is closed at once.
    pub(crate) fn new(listener: TcpListener, connections: usize) -> Limited {
        Limited {
            listener,
            permits: Arc::new(Semaphore::new(connections)),
            guests: Guests {
                each: connections / 2,
                counts: Arc::default(),
            },
            sent: |_| {},
        }
    }

    /// Tells how many bytes each write has sent.
    pub(crate) fn counting(self, sent: fn(usize)) -> Limited {
        Limited { sent, ..self }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone)]
struct Guests {
    /// Limit for one address.
    each: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Guests {
    /// `None` if the address has its share.
    fn admit(&self, address: IpAddr) -> Option<Guest> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Guest {
            address,
            guests: self.clone(),
        })
    }
}

/// Counts as a connection of its address until it is dropped.
#[derive(Debug)]
struct Guest {
    address: IpAddr,
    guests: Guests,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = (self.guests.counts.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permits = self.permits.clone();
        let permit = permits.acquire_owned().await.expect("never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // A v4 address on a v6 socket is the same machine.
                    let Some(guest) = self.guests.admit(address.ip().to_canonical()) else {
                        continue;
                    };
                    // A playlist of a few hundred bytes must not wait for the acknowledgement of the part before.
                    let _ = stream.set_nodelay(true);
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_read_timeout(Some(SILENCE));
                    stream.set_write_timeout(Some(SILENCE));
                    let connection = Connection {
                        stream: Box::pin(stream),
                        sent: self.sent,
                        _permit: permit,
                        _guest: guest,
                    };
                    return (connection, address);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    sent: fn(usize),
    _permit: OwnedSemaphorePermit,
    _guest: Guest,
}

impl Connection {
    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            (self.sent)(*bytes);
            // Who is being sent something has nothing to say: hyper reads all the same, to see the end of the connection.
            let stream = self.stream.as_mut();
            stream.set_read_timeout_pinned(Some(SILENCE));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }
}
