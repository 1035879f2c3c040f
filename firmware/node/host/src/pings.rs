//! Pings, which are answered also where ours are not.
//!
//! libp2p-ping 0.47, as upstream's main, stops both directions of a connection once the peer has refused our ping as a protocol
//! that it does not speak (`State::Inactive`, since rust-libp2p's #2149). A js-libp2p without the ping service refuses it, and
//! yet asks by pings of its own whether the connection lives: it ends one that does not answer after fifteen seconds. So
//! the refusal is kept from libp2p-ping, which then waits for the stream that it has asked for, and asks for no other one.
//!
//! Nothing acts on what our pings find. They are there for TCP, which notices a dead connection only where it sends.

use std::convert::Infallible;
use std::task::{Context, Poll, ready};

use connexa::prelude::swarm::derive_prelude::{Endpoint, PortUse};
use connexa::prelude::swarm::handler::{ConnectionEvent, DialUpgradeError};
use connexa::prelude::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use connexa::prelude::{Multiaddr, Protocol};
use rust_ipfs::PeerId;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::places::Places;
use crate::unanswered;

/// libp2p-ping with handlers that are [`Answering`], the door, and a clock: rust-ipfs takes one behaviour that is not its own.
pub(crate) struct Pings {
    upstream: libp2p_ping::Behaviour,
    places: Places,
    ticks: Interval,
}

/// What the clock says: that this address of the host, which it never had, has expired. rust-ipfs 0.16 takes no events of a behaviour
/// that is not its own, and calls its user for events alone.
pub(crate) fn tick() -> Multiaddr {
    Protocol::Memory(1).into()
}

impl Pings {
    /// `incoming` connections are let in by others. Within a runtime.
    pub(crate) fn new(incoming: u32) -> Pings {
        let mut ticks = interval(unanswered::EVERY);
        // Looks that were missed are not made up for: a list that is looked at twice in a moment is the same.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pings {
            upstream: libp2p_ping::Behaviour::default(),
            places: Places::new(incoming),
            ticks,
        }
    }
}

type Upstream = THandler<libp2p_ping::Behaviour>;

/// The handler of one connection.
pub(crate) struct Answering(Upstream);

impl ConnectionHandler for Answering {
    type FromBehaviour = <Upstream as ConnectionHandler>::FromBehaviour;
    type ToBehaviour = <Upstream as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = <Upstream as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = <Upstream as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = <Upstream as ConnectionHandler>::InboundOpenInfo;
    type OutboundOpenInfo = <Upstream as ConnectionHandler>::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.0.listen_protocol()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        self.0.poll(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.0.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::DialUpgradeError(DialUpgradeError {
            error: StreamUpgradeError::NegotiationFailed,
            ..
        }) = event
        {
            return;
        }
        self.0.on_connection_event(event);
    }
}

impl NetworkBehaviour for Pings {
    type ConnectionHandler = Answering;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        (self.places.take(connection, remote)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Answering, ConnectionDenied> {
        let upstream = &mut self.upstream;
        upstream
            .handle_established_inbound_connection(connection, peer, local, remote)
            .map(Answering)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Answering, ConnectionDenied> {
        let upstream = &mut self.upstream;
        upstream
            .handle_established_outbound_connection(connection, peer, address, role, port)
            .map(Answering)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.places.leave(closed.connection_id),
            FromSwarm::ListenFailure(failed) => self.places.leave(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        _: THandlerOutEvent<Self>,
    ) {
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        ready!(self.ticks.poll_tick(cx));
        Poll::Ready(ToSwarm::ExternalAddrExpired(tick()))
    }
}
