//! A mirror's side: another box's name instead of one of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cid::Cid;
use node_host::HostError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::names::{Clock, Name, NameRecord, RecordError, Signer};
use crate::peers::Peer;
use crate::writer::{Command, Follow};
use crate::{
    BroadcastId, CHANNEL_FILE, Config, Node, OpenError, Recovered, StoreError, in_journal, keys,
};

/// Says whose mirror a data directory is: the name.
const FOLLOWS_FILE: &str = "follows";

/// What comes over PubSub: a record, or why it is none.
pub type Heard = Result<NameRecord, RecordError>;

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) name: Name,
    pub(crate) heard: mpsc::Sender<Heard>,
}

/// The name that a data directory mirrors, if it is a mirror's.
pub(crate) fn followed(dir: &Path) -> Result<Option<Name>, OpenError> {
    let path = dir.join(FOLLOWS_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim().parse::<Name>();
            let broken = |error: crate::NameError| OpenError::KeyBroken {
                path,
                reason: error.to_string(),
            };
            name.map(Some).map_err(broken)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(dir, error)),
    }
}

/// Who signs in a data directory: a box its own records, a mirror none.
pub(crate) fn signer(dir: &Path, wanted: Option<Name>, clock: Clock) -> Result<Signer, OpenError> {
    match (followed(dir)?, wanted) {
        (Some(name), Some(wanted)) if name == wanted => Ok(Signer::following(name)),
        (Some(name), _) => Err(OpenError::Mirror {
            dir: dir.to_owned(),
            name,
        }),
        (None, Some(name)) => {
            if dir.join(CHANNEL_FILE).exists() {
                return Err(OpenError::NotAMirror {
                    dir: dir.to_owned(),
                });
            }
            let temporary = dir.join("follows.tmp");
            let written = std::fs::write(&temporary, format!("{name}\n"))
                .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
                .and_then(|()| std::fs::rename(&temporary, dir.join(FOLLOWS_FILE)))
                .and_then(|()| std::fs::File::open(dir)?.sync_all());
            written.map_err(|error| OpenError::io(dir, error))?;
            Ok(Signer::following(name))
        }
        (None, None) => Ok(Signer::new(keys::load_or_create(dir, CHANNEL_FILE)?, clock)),
    }
}

impl Node {
    /// Opens the data directory of a mirror of `name`, as [`Node::open`] does that of a box. It signs nothing: its
    /// [`record`](Node::record) is the last one that it was given with what it names. What comes over PubSub goes to `heard`,
    /// and is lost while that is full.
    pub async fn follow(
        config: Config,
        name: Name,
        heard: mpsc::Sender<Heard>,
    ) -> Result<(Node, Recovered), OpenError> {
        Node::open_as(config, Some(Following { name, heard })).await
    }

    /// Dials a peer at an address that ends in `/p2p/<peer id>`, and again whenever it is gone, until that is aborted. Nothing where
    /// there is no network.
    pub fn keep_peer(&self, address: String) -> Result<Option<AbortHandle>, HostError> {
        let peer = Peer::parse(address)?;
        let host = self.shared.host.clone();
        Ok(host.map(|host| tokio::spawn(peer.keep(host)).abort_handle()))
    }

    /// The records of the channel's name that the DHT has.
    pub async fn ask_dht(&self, timeout: Duration) -> Result<Vec<Heard>, HostError> {
        let Some(host) = &self.shared.host else {
            return Ok(Vec::new());
        };
        let name = self.channel();
        let found = host.get_records(name.routing_key(), timeout).await?;
        let found = found.into_iter();
        Ok(found
            .map(|bytes| NameRecord::verify(&name, bytes))
            .collect())
    }

    /// Keeps a record that names what is stored.
    pub async fn keep_record(&self, record: NameRecord) -> Result<(), StoreError> {
        self.ask(|reply| Command::Follow(Follow::Record { record, reply }))
            .await?
    }

    /// Deletes a followed broadcast, unless it is pinned.
    pub async fn delete(&self, broadcast: BroadcastId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Follow(Follow::Delete { broadcast, reply }))
            .await?
    }

    /// CID of each file of a broadcast whose blocks are here, by path.
    pub async fn files_of(
        &self,
        broadcast: BroadcastId,
    ) -> Result<BTreeMap<String, Cid>, StoreError> {
        let journal = &self.shared.journal;
        in_journal(journal, move |journal| Ok(journal.files_of(broadcast)?)).await
    }

    /// Paths of the files that a broadcast names and that are not kept here.
    pub async fn absent(&self, broadcast: BroadcastId) -> Result<Vec<String>, StoreError> {
        let journal = &self.shared.journal;
        in_journal(journal, move |journal| Ok(journal.absent(broadcast)?)).await
    }
}
