//! Starting: the only call of `IpfsBuilder::start()`.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use connexa::behaviour::BehaviourEvent;
use connexa::prelude::swarm::SwarmEvent;
use connexa::prelude::swarm::dial_opts::DialOpts;
use connexa::prelude::transport::pnet::PreSharedKey;
use connexa::prelude::{identify, mdns};
use rust_ipfs::builder::IpfsBuilder;
use rust_ipfs::p2p::IdentifyConfiguration;
use rust_ipfs::{FDLimit, Ipfs, Keypair, Multiaddr, Protocol};
use tokio::sync::watch;

use crate::contacts::Contacts;
use crate::gossip::Gossip;
use crate::neighbours::{self, Neighbours};
use crate::pings::{self, Pings};
use crate::provided::Provided;
use crate::unanswered::Unanswered;
use crate::{Config, DhtMode, Host, Inner, OpenError, listen, recycle};

/// Followers with a subscription, and peers that the host is told to keep, are not idle. Others are let go before a search
/// of the DHT has filled the address table of a venue's router.
const IDLE_SECONDS: u64 = 60;

/// Connections from one peer: a simultaneous dial over each transport makes as many.
const PER_PEER: u32 = 4;

/// One type for all hosts: for another behaviour the compiler would make the whole swarm once more.
pub(crate) type Builder = IpfsBuilder<Pings>;

/// A host that was shut down in this process is gone within milliseconds.
const WIND_DOWN: Duration = Duration::from_secs(5);

pub(crate) async fn open(config: Config) -> Result<Host, OpenError> {
    on_one_thread(move || start(config)).await
}

/// The builder holds closures that are not Send, so its future may not move between threads: it stays on one, while what it
/// spawns runs on the runtime.
pub(crate) async fn on_one_thread<T, F>(start: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || runtime.block_on(start())).await;
    match started {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Who this is, for other nodes' lists of peers.
pub(crate) fn identify() -> IdentifyConfiguration {
    IdentifyConfiguration {
        agent_version: concat!("podium/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..IdentifyConfiguration::default()
    }
}

/// Where to listen, and for whom.
pub(crate) fn parse(
    listen: &[String],
    swarm_key: Option<&str>,
) -> Result<(Vec<listen::Address>, Option<PreSharedKey>), OpenError> {
    let listen = listen::parse(listen)?;
    let swarm_key = swarm_key.map(PreSharedKey::from_str);
    let swarm_key = swarm_key.transpose().map_err(|e| OpenError::SwarmKey {
        reason: e.to_string(),
    })?;
    if swarm_key.is_some()
        && let Some(address) = listen.iter().find(|address| address.is_quic())
    {
        return Err(OpenError::PrivateQuic {
            address: address.to_string(),
        });
    }
    Ok((listen, swarm_key))
}

async fn start(config: Config) -> Result<Host, OpenError> {
    let Config {
        repo,
        identity,
        listen,
        mdns,
        dht,
        swarm_key,
        limits,
        judges,
    } = config;
    let repo_error = |source| OpenError::Repo {
        repo: repo.clone(),
        source,
    };
    let key = Keypair::from_protobuf_encoding(&identity).map_err(|e| OpenError::Identity {
        reason: e.to_string(),
    })?;
    let peer_id = key.public().to_peer_id();
    let (listen, swarm_key) = parse(&listen, swarm_key.as_deref())?;

    let blocks_dir = repo.join("blockstore");
    std::fs::create_dir_all(&blocks_dir).map_err(repo_error)?;
    wait_for_lock(&repo.join("repo_lock")).map_err(repo_error)?;
    let removed_temporary = remove_temporary(&blocks_dir).map_err(repo_error)?;

    let (peers_sender, peers) = watch::channel(0);
    let (connected_sender, connected) = watch::channel(BTreeSet::new());
    let (contacts_sender, contacts) = watch::channel(Contacts::new());
    let (neighbours_sender, neighbours) = watch::channel(Neighbours::new());
    let (listening_sender, listening) = watch::channel(Vec::new());
    let (thinned_sender, thinned) = watch::channel(0);
    // Not `with_default`: autonat asks strangers to dial back, which a box on a venue's network has no use for.
    let mut builder = Builder::with_keypair(&key)
        .map_err(|e| OpenError::Identity {
            reason: e.to_string(),
        })?
        .with_identify(identify())
        .with_bitswap_config(move |_| rust_ipfs::p2p::bitswap::Config {
            global_serve_limit: limits.serving,
        })
        .with_kademlia()
        .with_custom_behaviour(move |_| Ok(Pings::new(limits.incoming)))
        .with_pubsub(Default::default())
        .enable_tcp()
        .enable_websocket()
        .set_connection_limits(move |l| {
            l.with_max_established_incoming(Some(limits.incoming))
                .with_max_pending_incoming(Some(limits.incoming))
                .with_max_established_per_peer(Some(PER_PEER))
        })
        .set_idle_connection_timeout(IDLE_SECONDS)
        .fd_limit(FDLimit::Max)
        .set_path(&repo);
    // QUIC would let strangers in beside the key.
    builder = match swarm_key {
        Some(key) => builder.enable_pnet(key),
        // libp2p's own settings: connexa's end a connection after 300 ms of silence, and so on any busy machine.
        None => builder.enable_quic_with_config(|quic| quic),
    };
    if mdns {
        builder = builder.with_mdns();
    }
    let gossip = Gossip::new(key.clone(), judges);
    let provided = Provided::default();
    let unanswered = Unanswered::default();
    let builder = builder.swarm_events(move |swarm, event| {
        if swarm.connected_peers().next().is_none() {
            gossip.exchange(&mut swarm.behaviour_mut().gossipsub);
        }
        match event {
        SwarmEvent::ConnectionEstablished { .. } | SwarmEvent::ConnectionClosed { .. } => {
            contacts_sender.send_modify(|contacts| match event {
                SwarmEvent::ConnectionEstablished {
                    peer_id, endpoint, ..
                } => {
                    let contact = contacts.entry(peer_id.to_string()).or_default();
                    contact.connected(*peer_id, endpoint);
                }
                SwarmEvent::ConnectionClosed {
                    peer_id,
                    connection_id,
                    ..
                } => {
                    contacts.retain(|id, _| {
                        id.parse()
                            .is_ok_and(|id: rust_ipfs::PeerId| swarm.is_connected(&id))
                    });
                    if let Some(contact) = contacts.get_mut(&peer_id.to_string()) {
                        contact.closed(*connection_id);
                    }
                }
                _ => {}
            });
            let connected: BTreeSet<String> =
                swarm.connected_peers().map(ToString::to_string).collect();
            peers_sender.send_replace(connected.len() as u32);
            connected_sender.send_if_modified(|old| {
                let differs = *old != connected;
                if differs {
                    *old = connected;
                }
                differs
            });
            if let SwarmEvent::ConnectionClosed {
                num_established,
                peer_id,
                ..
            } = event
            {
                match num_established {
                    0 => gossip.gone(&mut swarm.behaviour_mut().gossipsub, peer_id),
                    _ => thinned_sender.send_modify(|count| *count += 1),
                }
            }
        }
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
            peer_id,
            connection_id,
            info,
        })) => {
            let bitswap = (swarm.behaviour().custom.as_ref()).and_then(|it| it.bitswap.as_ref());
            let heard = bitswap.is_some_and(|it| it.peers().contains(peer_id));
            let mut refused = false;
            contacts_sender.send_if_modified(|contacts| {
                let contact = contacts.get_mut(&peer_id.to_string());
                let known = contact.is_some();
                if let Some(contact) = contact {
                    refused = contact.identified(*peer_id, *connection_id, info, heard);
                }
                known
            });
            // A Kubo that starts dials before it answers to bitswap, and whom rust-ipfs 0.16 has asked in vain it does not hear for as
            // long as they are connected. A peer tells when its protocols change, and is asked every five minutes.
            if refused {
                let _ = swarm.disconnect_peer_id(*peer_id);
            }
        }
        // An address of all interfaces is one for each, and they come and go: with DHCP, with a cable.
        SwarmEvent::NewListenAddr { .. }
        | SwarmEvent::ExpiredListenAddr { .. }
        | SwarmEvent::ListenerClosed { .. } => {
            // The DHT tells others who has a block with these addresses alone (libp2p-kad 0.48), and servers drop who has none.
            match event {
                SwarmEvent::NewListenAddr { address, .. } if leads_here(address) => {
                    swarm.add_external_address(address.clone());
                }
                SwarmEvent::ExpiredListenAddr { address, .. } => {
                    swarm.remove_external_address(address);
                }
                SwarmEvent::ListenerClosed { addresses, .. } => {
                    addresses
                        .iter()
                        .for_each(|it| swarm.remove_external_address(it));
                }
                _ => {}
            }
            let bound = swarm.listeners().map(|at| format!("{at}/p2p/{peer_id}"));
            listening_sender.send_replace(bound.collect());
        }
        // 0.16.0 only logs what mDNS discovers.
        SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
            let mut noted = Vec::new();
            neighbours_sender.send_modify(|neighbours| {
                noted.extend(found.iter().filter(|(peer, address)| {
                    neighbours::note(neighbours, *peer, address.clone())
                }));
            });
            for (peer, address) in noted {
                if swarm.is_connected(peer) {
                    continue;
                }
                let dial = DialOpts::peer_id(*peer)
                    .addresses(vec![address.clone()])
                    .build();
                if let Err(error) = swarm.dial(dial) {
                    tracing::debug!(%peer, %address, %error, "cannot dial a neighbour");
                }
            }
        }
        SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Expired(gone))) => {
            neighbours_sender.send_modify(|neighbours| {
                for (peer, address) in gone {
                    if let Some(addresses) = neighbours.get_mut(peer) {
                        addresses.remove(address);
                    }
                }
                neighbours.retain(|_, addresses| !addresses.is_empty());
            });
        }
        SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(heard)) => {
            let gossipsub = &mut swarm.behaviour_mut().gossipsub;
            if let Some(peer) = gossip.heard(gossipsub, heard) {
                tracing::warn!(%peer, "listens to more topics than anybody needs; it is disconnected");
                let _ = swarm.disconnect_peer_id(peer);
            }
        }
        SwarmEvent::ExternalAddrExpired { address } if *address == pings::tick() => {
            let ipfs = swarm.behaviour_mut().custom.as_mut();
            if let Some(bitswap) = ipfs.and_then(|it| it.bitswap.as_mut()) {
                let peers = bitswap.peers().into_iter();
                let again = unanswered.look(peers.map(|peer| (peer, bitswap.peer_wantlist(peer))));
                if !again.is_empty() {
                    tracing::debug!(blocks = again.len(), "a peer waits in vain: its wants are answered again");
                    bitswap.notify_new_blocks(again);
                }
            }
        }
        SwarmEvent::Behaviour(BehaviourEvent::Kademlia(event)) => {
            if let Some(kademlia) = swarm.behaviour_mut().kademlia.as_mut() {
                provided.note(kademlia, event);
            }
        }
        _ => {}
        }
    });

    let ipfs = builder
        .start()
        .await
        .map_err(|error| repo_error(as_io(error)))?;
    match listen_and_settle(&ipfs, listen, dht).await {
        Ok(()) => {}
        Err(error) => {
            ipfs.exit_daemon().await;
            return Err(error);
        }
    }
    recycle::spawn(ipfs.clone(), limits, connected.clone());
    neighbours::spawn(ipfs.clone(), neighbours, connected.clone());
    let inner = Inner {
        ipfs,
        peer_id,
        blocks_dir,
        peers,
        connected,
        contacts,
        listening,
        thinned,
        asked: Default::default(),
        removed_temporary,
    };
    Ok(Host {
        inner: inner.into(),
    })
}

async fn listen_and_settle(
    ipfs: &Ipfs,
    addresses: Vec<listen::Address>,
    dht: DhtMode,
) -> Result<(), OpenError> {
    let mode = match dht {
        DhtMode::Client => rust_ipfs::DhtMode::Client,
        DhtMode::Server => rust_ipfs::DhtMode::Server,
    };
    // First: with an address and without a mode it would take itself for a server.
    if let Err(error) = ipfs.dht_mode(mode).await {
        tracing::warn!(%error, ?dht, "the DHT does not take this mode");
    }
    for address in addresses {
        listen::bind(ipfs, address).await?;
    }
    Ok(())
}

fn as_io(error: rust_ipfs::Error) -> std::io::Error {
    error
        .downcast::<std::io::Error>()
        .unwrap_or_else(|e| std::io::Error::other(e.to_string()))
}

/// rust-ipfs locks its repository, and a host that was shut down keeps the lock until its last task has been dropped,
/// which nobody can await.
fn wait_for_lock(path: &Path) -> std::io::Result<()> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let deadline = Instant::now() + WIND_DOWN;
    loop {
        match file.try_lock() {
            // Dropping the file unlocks it for rust-ipfs.
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(std::io::Error::new(
                    ErrorKind::ResourceBusy,
                    "another host has it open",
                ));
            }
            // This is a thread for blocking calls.
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A killed process leaves at most one of these per block being written; rust-ipfs never collects them.
fn remove_temporary(blocks_dir: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for shard in std::fs::read_dir(blocks_dir)? {
        let shard = shard?;
        if !shard.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(shard.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                std::fs::remove_file(&path)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether others can come by this address, on the local network or from outside.
fn leads_here(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_loopback() && !ip.is_link_local(),
        Some(Protocol::Ip6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        _ => false,
    }
}
