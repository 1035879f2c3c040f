//! Connections whose streams count what they send, and wait where there is a cap.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

use crate::{Carried, with_cap};

/// A connection with streams. What it sends by itself, as acknowledgements, is neither counted nor held back: a peer that
/// hears nothing would end it.
#[derive(Debug)]
pub struct Metered<M> {
    connection: M,
    /// Its streams', too.
    carried: Arc<Carried>,
}

impl<M> Metered<M> {
    pub fn new(connection: M) -> Metered<M> {
        Metered {
            connection,
            carried: Arc::default(),
        }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Metered<M>
where
    M::Substream: Unpin,
{
    type Substream = MeteredStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.connection).poll_inbound(cx);
        stream.map_ok(|stream| MeteredStream::new(stream, &self.carried))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.connection).poll_outbound(cx);
        stream.map_ok(|stream| MeteredStream::new(stream, &self.carried))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// A stream of such a connection.
#[derive(Debug)]
pub struct MeteredStream<S> {
    stream: S,
    carried: Arc<Carried>,
    /// Until the cap has room again.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> MeteredStream<S> {
    fn new(stream: S, carried: &Arc<Carried>) -> MeteredStream<S> {
        MeteredStream {
            stream,
            carried: carried.clone(),
            pause: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match with_cap(|bucket, now| bucket.take(now, buf.len())) {
                None => break buf.len(),
                Some(Ok(allowed)) => break allowed,
                Some(Err(wait)) => self.pause = Some(Box::pin(sleep(wait))),
            }
        };
        let written = Pin::new(&mut self.stream).poll_write(cx, &buf[..allowed]);
        let sent = match &written {
            Poll::Ready(Ok(sent)) => *sent,
            _ => 0,
        };
        if sent < allowed {
            with_cap(|bucket, _| bucket.put_back(allowed - sent));
        }
        self.carried.count(sent);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
