//! A listener that no crowd can use up: a bounded number of connections at a time, no more than half of them from one
//! address, and none that stays silent for long. Who is one too many is told to come back. What is left over belongs to the
//! store and the encoder; one idle viewer too many must not end the broadcast, and one machine must not keep all others out.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use stream::status::Viewers;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::addresses::is_neighbour;
use crate::config;

/// Longer than a slow player needs for the next bytes of a segment.
const SILENCE: Duration = Duration::from_secs(120);

/// The head of a request has to be there so long after the connection, or after the last answer: longer than a player waits between
/// two reloads, which is at most a segment.
const HEAD: Duration = Duration::from_secs(15);

/// Of a request's head, and of what waits to be written, in memory. Hyper's own 400 KiB are 200 MiB for a crowd.
const HEAD_BYTES: usize = 32 << 10;

/// After an accept that failed, usually for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is turned away gets the answer and is listened to for so long: a connection that is closed with a request in it is reset,
/// and takes the answer with it.
const LINGER: Duration = Duration::from_secs(1);

/// Of those turned away, so many at a time are listened to.
const LINGERING: usize = 64;

/// A page that asks again by itself: people read it.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\nconnection: close\r\n\
    access-control-allow-origin: *\r\ncontent-type: text/html\r\ncontent-length: 186\r\n\r\n\
    <!doctype html><meta name=viewport content=\"width=device-width\"><meta http-equiv=refresh content=10><title>Full</title>\n\
    <p>All places are taken. This page tries again every ten seconds.\n";

/// Takes all the file descriptors that the system allows: the default of 1024 is for programs of another time, and
/// GStreamer 1.22 keeps five for each card that is pulled out (`forty_times_out_and_in_again`). Says how many there are.
pub(crate) fn raise_file_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
        limit.current = before;
    }
    limit.current.map_or(usize::MAX, |files| files as usize)
}

#[derive(Debug)]
pub(crate) struct Limited {
    listener: TcpListener,
    guests: Guests,
    lingering: Arc<Semaphore>,
    sent: fn(usize),
    counts_neighbours: bool,
}

/// Serves `router` until cancelled, and then who is being answered. axum's own has no time for a request's head to come in: two
/// machines that send a byte now and then would hold all places.
pub(crate) async fn serve(
    listener: Limited,
    router: Router,
    cancel: CancellationToken,
) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES);
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            connection = listener.accept() => connection,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(connection), service);
        let cancel = cancel.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let done = tokio::select! {
                done = connection.as_mut() => done,
                () = cancel.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = done {
                tracing::trace!(%error, "a connection");
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

impl Limited {
    /// Who is one too many is told so and closed.
    pub(crate) fn new(listener: TcpListener, guests: Guests) -> Limited {
        Limited {
            listener,
            guests,
            lingering: Arc::new(Semaphore::new(LINGERING)),
            sent: |_| {},
            counts_neighbours: true,
        }
    }

    /// Tells how many bytes each write has sent by the uplink.
    pub(crate) fn counting(self, sent: fn(usize), counts_neighbours: bool) -> Limited {
        Limited {
            sent,
            counts_neighbours,
            ..self
        }
    }

    /// Waits for nobody.
    fn turn_away(&self, mut stream: TcpStream) {
        let Ok(permit) = self.lingering.clone().try_acquire_owned() else {
            // What the kernel takes at once.
            let _ = stream
                .into_std()
                .and_then(|mut stream| stream.write(TURNED_AWAY));
            return;
        };
        tokio::spawn(async move {
            let goodbye = async {
                stream.write_all(TURNED_AWAY).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            };
            let _ = tokio::time::timeout(LINGER, goodbye).await;
            drop(permit);
        });
    }
}

/// Who is connected to a listener, and how many may be; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Guests {
    most: usize,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    by_address: HashMap<IpAddr, usize>,
    refused: u64,
    neighbours_bytes: u64,
}

impl Guests {
    /// At most `most` connections at a time. Half of them may come from one address, for a crowd behind one router or proxy.
    pub(crate) fn new(most: usize) -> Guests {
        Guests {
            most,
            counts: Arc::default(),
        }
    }

    /// As configured, if that leaves half of `files`, the process's file descriptors, to the store and the encoder.
    pub(crate) fn viewers(config: &config::Viewer, files: usize) -> Guests {
        let (wanted, most) = (config.max_connections as usize, files / 2);
        if wanted > most {
            tracing::warn!(
                most,
                "[viewer] max_connections is more than the limit of open files allows"
            );
        }
        Guests::new(wanted.min(most))
    }

    pub(crate) fn now(&self) -> Viewers {
        let counts = self.counts();
        Viewers {
            connections: counts.connections as u32,
            max_connections: self.most as u32,
            refused: counts.refused,
        }
    }

    /// Bytes that have left, but not by the uplink, since the start.
    pub(crate) fn neighbours_bytes(&self) -> u64 {
        self.counts().neighbours_bytes
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if all places are taken, or the machine behind the address has its share.
    fn admit(&self, address: IpAddr) -> Option<Guest> {
        let address = node::machine_of(address);
        let mut counts = self.counts();
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.connections >= self.most || of_address >= self.most / 2 {
            counts.refused += 1;
            return None;
        }
        counts.connections += 1;
        counts.by_address.insert(address, of_address + 1);
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
        let mut counts = self.guests.counts();
        counts.connections -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

impl Limited {
    async fn accept(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // A v4 address on a v6 socket is the same machine.
                    let address = address.ip().to_canonical();
                    let Some(guest) = self.guests.admit(address) else {
                        self.turn_away(stream);
                        continue;
                    };
                    // A playlist of a few hundred bytes must not wait for the acknowledgement of the part before.
                    let _ = stream.set_nodelay(true);
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_read_timeout(Some(SILENCE));
                    stream.set_write_timeout(Some(SILENCE));
                    return Connection {
                        stream: Box::pin(stream),
                        sent: match !self.counts_neighbours && is_neighbour(address) {
                            true => None,
                            false => Some(self.sent),
                        },
                        guest,
                    };
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    /// `None` for a neighbour.
    sent: Option<fn(usize)>,
    guest: Guest,
}

impl Connection {
    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            match self.sent {
                Some(sent) => sent(*bytes),
                None => self.guest.guests.counts().neighbours_bytes += *bytes as u64,
            }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn who_is_one_too_many_is_told_so_and_the_others_keep_their_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let guests = Guests::new(4);
        let limited = Limited::new(listener, guests.clone());
        let (admitted, mut all) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let connection = limited.accept().await;
                admitted.send(connection).await.unwrap();
            }
        });
        let from = async |host: u8| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, host], 0).into()).unwrap();
            socket.connect(at).await.unwrap()
        };
        let turned_away = async |host: u8| {
            let mut stream = from(host).await;
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(head.contains(&format!("content-length: {}", body.len())));
            assert!(body.contains("http-equiv=refresh"), "{body}");
        };
        let crowd = |connections, refused| Viewers {
            connections,
            max_connections: 4,
            refused,
        };
        let _one = [from(1).await, from(1).await];
        let inside = [all.recv().await.unwrap(), all.recv().await.unwrap()];
        turned_away(1).await;
        assert_eq!(guests.now(), crowd(2, 1));
        let _others = [from(2).await, from(3).await];
        let _inside = [all.recv().await.unwrap(), all.recv().await.unwrap()];
        turned_away(4).await;
        assert_eq!(guests.now(), crowd(4, 2));
        drop(inside);
        assert_eq!(guests.now(), crowd(2, 2));
        let _again = from(1).await;
        let _last = all.recv().await.unwrap();
        assert_eq!(guests.now(), crowd(3, 2));
    }

    #[test]
    fn a_network_of_ipv6_has_one_share() {
        let guests = Guests::new(4);
        let admit = |address: &str| guests.admit(address.parse().unwrap());
        let two = ["2001:db8::1", "2001:db8::2"].map(admit);
        assert!(two.iter().all(Option::is_some));
        assert!(admit("2001:db8::3").is_none());
        assert!(admit("2001:db8:0:1::3").is_some());
        drop(two);
        assert!(admit("2001:db8::3").is_some());
    }

    /// Time passes where all wait: for the network nobody does.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_gives_its_place_away_and_an_answer_may_take_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let guests = Guests::new(4);
        let late = async || {
            tokio::time::sleep(3 * HEAD).await;
            "late"
        };
        let router = Router::new().route("/", get(late));
        let cancel = CancellationToken::new();
        let limited = Limited::new(listener, guests.clone());
        let served = tokio::spawn(serve(limited, router, cancel.clone()));
        const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: box\r\n\r\n";

        // A byte every four seconds, of a first request and of a second.
        for requests in 0..2 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            for _ in 0..requests {
                stream.write_all(REQUEST).await.unwrap();
                let asked = Instant::now();
                let mut answer = Vec::new();
                while !answer.ends_with(b"late") {
                    assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
                }
                assert!(asked.elapsed() >= 3 * HEAD);
            }
            let begun = Instant::now();
            let mut bytes = REQUEST.iter();
            let pause = Duration::from_secs(4);
            loop {
                let byte = *bytes
                    .next()
                    .expect("it is sent away before it has sent all");
                // Who is sent away may be told so by the next write.
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                match tokio::time::timeout(pause, stream.read(&mut [0; 64])).await {
                    Ok(Ok(0) | Err(_)) => break,
                    Ok(Ok(_)) => panic!("an answer to half a request"),
                    Err(_) => {}
                }
            }
            let kept = begun.elapsed();
            assert!(kept >= HEAD && kept <= HEAD + pause, "{kept:?}");
        }

        // The end waits for an answer, and not for who asks nothing.
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _idle = TcpStream::connect(at).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        while guests.now().connections < 2 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
        let cancelled = Instant::now();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("late"), "{answer}");
        served.await.unwrap().unwrap();
        // Who is kept for another request is kept for another [`HEAD`].
        let took = cancelled.elapsed();
        assert!(took < 3 * HEAD + HEAD / 2, "{took:?}");
    }
}
