//! Upstream's QUIC with connections that are [`uplink::Metered`].
//!
//! As much of its surface as libp2p and connexa use.

pub use upstream::Config;

pub mod tokio {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use libp2p_core::connection::ConnectedPoint;
    use libp2p_core::multiaddr::Multiaddr;
    use libp2p_core::transport::map::Map;
    use libp2p_core::transport::{
        DialOpts, ListenerId, Transport as _, TransportError, TransportEvent,
    };
    use libp2p_identity::PeerId;
    use uplink::Metered;
    use upstream::Connection;

    type Upstream = upstream::tokio::Transport;
    type Output = (PeerId, Metered<Connection>);
    type Inner = Map<Upstream, fn((PeerId, Connection), ConnectedPoint) -> Output>;

    /// Upstream's transport over tokio.
    pub struct Transport(Inner);

    impl std::fmt::Debug for Transport {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Transport").finish()
        }
    }

    impl Transport {
        pub fn new(config: upstream::Config) -> Transport {
            Transport(Upstream::new(config).map(metered))
        }
    }

    fn metered((peer, connection): (PeerId, Connection), _: ConnectedPoint) -> Output {
        (peer, Metered::new(connection))
    }

    impl libp2p_core::Transport for Transport {
        type Output = Output;
        type Error = <Inner as libp2p_core::Transport>::Error;
        type ListenerUpgrade = <Inner as libp2p_core::Transport>::ListenerUpgrade;
        type Dial = <Inner as libp2p_core::Transport>::Dial;

        fn listen_on(
            &mut self,
            id: ListenerId,
            address: Multiaddr,
        ) -> Result<(), TransportError<Self::Error>> {
            self.0.listen_on(id, address)
        }

        fn remove_listener(&mut self, id: ListenerId) -> bool {
            self.0.remove_listener(id)
        }

        fn dial(
            &mut self,
            address: Multiaddr,
            options: DialOpts,
        ) -> Result<Self::Dial, TransportError<Self::Error>> {
            self.0.dial(address, options)
        }

        fn poll(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
            Pin::new(&mut self.0).poll(cx)
        }
    }
}
