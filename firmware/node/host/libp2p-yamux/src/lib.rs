//! Upstream's yamux, which carries all peers over TCP and WebSocket, with connections that are [`uplink::Metered`].
//!
//! As much of its surface as libp2p and connexa use.

use std::io;

use futures::future::MapOk;
use futures::{AsyncRead, AsyncWrite, TryFutureExt as _};
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use uplink::Metered;
use upstream::Muxer;

/// Upstream's defaults.
#[derive(Debug, Clone, Default)]
pub struct Config(upstream::Config);

/// Upstream's future `F` of a connection, made metered.
type Upgrade<C, F> = MapOk<F, fn(Muxer<C>) -> Metered<Muxer<C>>>;

impl UpgradeInfo for Config {
    type Info = <upstream::Config as UpgradeInfo>::Info;
    type InfoIter = <upstream::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C> InboundConnectionUpgrade<C> for Config
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Metered<Muxer<C>>;
    type Error = io::Error;
    type Future = Upgrade<C, <upstream::Config as InboundConnectionUpgrade<C>>::Future>;

    fn upgrade_inbound(self, io: C, info: Self::Info) -> Self::Future {
        self.0
            .upgrade_inbound(io, info)
            .map_ok(Metered::new as fn(_) -> _)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Config
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Metered<Muxer<C>>;
    type Error = io::Error;
    type Future = Upgrade<C, <upstream::Config as OutboundConnectionUpgrade<C>>::Future>;

    fn upgrade_outbound(self, io: C, info: Self::Info) -> Self::Future {
        self.0
            .upgrade_outbound(io, info)
            .map_ok(Metered::new as fn(_) -> _)
    }
}
