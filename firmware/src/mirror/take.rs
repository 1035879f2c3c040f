//! Fetching one root of a broadcast, looking at it, and taking it over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt as _;
use node::{
    AdoptError, BroadcastId, Fetch, NameRecord, Node, Place, Resolved, StoreError, Tree, Want,
};
use stream::extent::{Extent, Fate, Scope, is_media};
use stream::media::Rendition;
use stream::mirrored::{self, DESCRIPTION, Description, MOST_BYTES, Mirrored};
use stream::publication::segment_path;

/// A description has one line.
const MOST_DESCRIPTION: u64 = 4 << 10;

/// A broadcast as viewers get it.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) id: BroadcastId,
    pub(super) root: Cid,
    pub(super) description: Description,
    /// `/live/index.m3u8`.
    pub(super) index: String,
    pub(super) playlists: BTreeMap<Rendition, Mirrored>,
    /// All of the broadcast up to this root is here.
    pub(super) whole: bool,
    /// The playlists do not go on from those that were stored.
    pub(super) after_hole: bool,
}

impl Taken {
    /// Number of the first segment that a playlist lists.
    pub(super) fn window(&self) -> u64 {
        let playlists = self.playlists.values();
        playlists.map(|it| it.media_sequence).min().unwrap_or(0)
    }

    pub(super) fn target_duration(&self) -> Duration {
        let seconds = self.playlists.values().map(|it| it.target_duration);
        Duration::from_secs(seconds.max().unwrap_or(0))
    }

    /// Paths of the segments that come next.
    pub(super) fn next_files(&self) -> Vec<String> {
        let lasts = self.playlists.iter();
        lasts
            .filter_map(|(rendition, it)| Some(segment_path(*rendition, it.last?.checked_add(1)?)))
            .collect()
    }

    /// What its playlists list.
    fn files(&self) -> impl Iterator<Item = String> {
        files(&self.playlists)
    }

    /// The box has closed it.
    pub(super) fn ended(&self) -> bool {
        ended(&self.playlists)
    }
}

/// Why a root was not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    /// It is not such as may be served, and never will be.
    #[error("{0}")]
    Refused(String),
    /// There is no room for it.
    #[error("{0}")]
    Full(StoreError),
    /// For now.
    #[error("{0}")]
    Failed(String),
    /// There was nobody who could have it.
    #[error("{0}")]
    Alone(&'static str),
    /// It was given up for something newer.
    #[error("there is something newer")]
    GaveWay { brought: u64 },
}

impl From<AdoptError> for TakeError {
    fn from(error: AdoptError) -> TakeError {
        match error {
            AdoptError::Refused(_) => TakeError::Refused(error.to_string()),
            AdoptError::Store(
                error @ (StoreError::Full { .. }
                | StoreError::PinsFull { .. }
                | StoreError::DiskFull),
            ) => TakeError::Full(error),
            error => TakeError::Failed(error.to_string()),
        }
    }
}

impl From<StoreError> for TakeError {
    fn from(error: StoreError) -> TakeError {
        AdoptError::from(error).into()
    }
}

/// What to take over.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) root: Cid,
    /// The record that names it, where it is the newest and new.
    pub(super) record: Option<NameRecord>,
    pub(super) place: Place,
    pub(super) wish: Wish,
    /// Paths of what it is likely to have that is new.
    pub(super) expected: Vec<String>,
    /// Whether older broadcasts make room for it.
    pub(super) makes_room: bool,
    /// The broadcast of which this process has taken over a root already.
    pub(super) trusted: Option<BroadcastId>,
    /// What it says of itself is put here as soon as it has come, also where the rest never does.
    pub(super) described: Arc<OnceLock<Description>>,
}

/// How much of it.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Files(Scope),
    /// What is new, if it goes on from what is stored; and how far that goes back, of this broadcast.
    Newer(Option<BroadcastId>, Extent),
}

/// What is fetched, looked at, and ready to be taken over.
pub(super) struct Ready {
    fetch: Fetch,
    tree: Tree,
    /// Files that are no longer kept.
    left: Vec<String>,
    place: Place,
    record: Option<NameRecord>,
    root: Cid,
    description: Description,
    index: String,
    playlists: BTreeMap<Rendition, Mirrored>,
    whole: bool,
    after_hole: bool,
}

impl Ready {
    /// Takes it over. When it returns, all of it is durable. Who no longer waits for it does not keep it from becoming so.
    pub(super) async fn adopt(self) -> Result<Taken, TakeError> {
        let meta = serde_json::to_vec(&self.description).expect("plain data");
        let finish = ended(&self.playlists);
        let adopted =
            (self.fetch).adopt(self.place, self.tree, &self.left, meta, finish, self.record);
        Ok(Taken {
            id: adopted.await?,
            root: self.root,
            description: self.description,
            index: self.index,
            playlists: self.playlists,
            whole: self.whole,
            after_hole: self.after_hole,
        })
    }
}

/// Fetches what is new, and verifies it.
pub(super) async fn prepare(node: &Node, mut fetch: Fetch, job: Job) -> Result<Ready, TakeError> {
    let playlists_of = |rendition: Rendition| format!("{}/live.m3u8", rendition.name());
    let first = [DESCRIPTION.to_owned(), "index.m3u8".to_owned()];
    let first = (first.into_iter()).chain(Rendition::ALL.map(playlists_of));
    let first: Vec<String> = first.chain(job.expected).collect();
    fetch.ahead(&first).await?;
    let description = description(&mut fetch).await?;
    let _ = job.described.set(description.clone());
    let (index, playlists) = playlists(&mut fetch).await?;
    let known = stored(node, &description).await?;
    let before = match &known {
        Some((id, Some(root))) => read_stored(node, *id, *root).await.ok(),
        _ => None,
    };
    for (rendition, playlist) in &playlists {
        let before = before.as_ref().and_then(|it| it.playlists.get(rendition));
        if let Some(before) = before {
            playlist
                .follows(before)
                .map_err(|error| refused(format!("{}/live.m3u8: {error}", rendition.name())))?;
        }
    }
    let named: BTreeSet<String> = files(&playlists).collect();
    let after_hole = match (&known, &before) {
        (Some(_), None) => true,
        _ => (playlists.iter()).any(|(rendition, playlist)| {
            let before = before.as_ref().and_then(|it| it.playlists.get(rendition));
            let last = before.and_then(|before| before.last);
            playlist.media_sequence > last.map_or(description.first, |last| last + 1)
        }),
    };
    let id = known.map(|(id, _)| id);
    let scope = match job.wish {
        Wish::Files(scope) => scope,
        Wish::Newer(..) if id.is_none() => Extent::Complete.newer(after_hole),
        Wish::Newer(of, extent) if of == id => extent.newer(after_hole),
        Wish::Newer(..) => Extent::Unknown.newer(after_hole),
    };
    let sound = job.trusted.is_some() && job.trusted == id;
    let mut held = BTreeSet::new();
    if let Some(id) = id {
        fetch.goes_on_from(id);
        held = match &before {
            _ if !scope.drops() => held,
            // What this process has left of it is its window, so that nobody has to read all that the broadcast names.
            Some(before) if sound && scope == Scope::WINDOW_ALONE => before.files().collect(),
            _ => node.files_of(id).await?.into_keys().collect(),
        };
    }
    let wants = |path: &str| match scope.fate(path, &named) {
        Fate::Fetched => Want::All,
        Fate::Kept => Want::Stored,
        Fate::Dropped => Want::Nothing,
    };
    let tree = (fetch.tree(&wants, &|dir| scope.trusts(dir, sound))).await?;
    if let Some(path) = tree.replaced().find(|path| is_media(path)) {
        return Err(refused(format!("{path} was published with other bytes")));
    }
    let new: BTreeSet<&str> = tree.new_files().collect();
    let before_named: BTreeSet<String> = before.iter().flat_map(Taken::files).collect();
    let gone: BTreeSet<&str> = tree.gone().collect();
    if let Some(path) = vanished(&named, &new, &gone) {
        return Err(refused(format!(
            "a playlist names {path}, which is no longer there"
        )));
    }
    let lacking: Vec<&str> = (named.iter().map(String::as_str))
        .filter(|path| !new.contains(path) && !before_named.contains(*path))
        .collect();
    if !lacking.is_empty() {
        let stored = match id {
            Some(id) => node.files_of(id).await?,
            None => BTreeMap::new(),
        };
        if let Some(path) = lacking.iter().find(|path| !stored.contains_key(**path)) {
            return Err(refused(format!(
                "a playlist names {path}, which is not there"
            )));
        }
    }
    let left: Vec<String> = (held.into_iter())
        .filter(|path| wants(path) == Want::Nothing)
        .collect();
    Ok(Ready {
        fetch,
        tree,
        left,
        place: id.map_or(job.place, Place::Of),
        record: job.record,
        root: job.root,
        description,
        index,
        playlists,
        whole: scope == Scope::ALL,
        after_hole,
    })
}

/// A file that playlists name and that was there, but is no longer.
fn vanished<'a>(
    named: &'a BTreeSet<String>,
    new: &BTreeSet<&str>,
    gone: &BTreeSet<&str>,
) -> Option<&'a str> {
    let is_gone = |path: &&str| {
        let way = std::iter::successors(Some(*path), |it| Some(it.rsplit_once('/')?.0));
        !new.contains(path) && { way }.any(|it| gone.contains(it))
    };
    named.iter().map(String::as_str).find(is_gone)
}

fn files(playlists: &BTreeMap<Rendition, Mirrored>) -> impl Iterator<Item = String> {
    (playlists.values()).flat_map(|playlist| playlist.files.iter().cloned())
}

fn ended(playlists: &BTreeMap<Rendition, Mirrored>) -> bool {
    playlists.values().all(|playlist| playlist.ended)
}

fn refused(why: String) -> TakeError {
    TakeError::Refused(why)
}

async fn description(fetch: &mut Fetch) -> Result<Description, TakeError> {
    let bytes = fetch.file(DESCRIPTION, MOST_DESCRIPTION).await?;
    let bytes = bytes.ok_or_else(|| refused(format!("it has no {DESCRIPTION}")))?;
    serde_json::from_slice(&bytes).map_err(|error| refused(format!("{DESCRIPTION}: {error}")))
}

async fn playlists(
    fetch: &mut Fetch,
) -> Result<(String, BTreeMap<Rendition, Mirrored>), TakeError> {
    let mut read = BTreeMap::new();
    let index = text(fetch.file("index.m3u8", MOST_BYTES).await?, "index.m3u8")?;
    let (index, renditions) =
        mirrored::read_index(&index).map_err(|error| refused(format!("index.m3u8: {error}")))?;
    for rendition in renditions {
        let path = format!("{}/live.m3u8", rendition.name());
        let playlist = text(fetch.file(&path, MOST_BYTES).await?, &path)?;
        let playlist = Mirrored::read(rendition, &playlist)
            .map_err(|error| refused(format!("{path}: {error}")))?;
        read.insert(rendition, playlist);
    }
    Ok((index, read))
}

fn text(bytes: Option<Bytes>, path: &str) -> Result<String, TakeError> {
    let bytes = bytes.ok_or_else(|| refused(format!("it has no {path}")))?;
    String::from_utf8(bytes.into()).map_err(|_| refused(format!("{path} is no text")))
}

/// The stored broadcast of this description.
async fn stored(
    node: &Node,
    description: &Description,
) -> Result<Option<(BroadcastId, Option<Cid>)>, TakeError> {
    let mut stored = node.broadcasts().await?.into_iter();
    let found = stored.find(|stored| {
        let meta: Option<Description> = serde_json::from_slice(&stored.meta).ok();
        meta.is_some_and(|meta| meta.identity() == description.identity())
    });
    Ok(found.map(|stored| (stored.id, stored.root)))
}

/// What is stored of a broadcast, as it was taken over.
pub(super) async fn read_stored(node: &Node, id: BroadcastId, root: Cid) -> anyhow::Result<Taken> {
    let index = read(node, root, "index.m3u8").await?;
    let (index, renditions) = mirrored::read_index(&index)?;
    let mut playlists = BTreeMap::new();
    for rendition in renditions {
        let text = read(node, root, &format!("{}/live.m3u8", rendition.name())).await?;
        playlists.insert(rendition, Mirrored::read(rendition, &text)?);
    }
    Ok(Taken {
        id,
        root,
        description: serde_json::from_str(&read(node, root, DESCRIPTION).await?)?,
        index,
        playlists,
        whole: false,
        after_hole: false,
    })
}

async fn read(node: &Node, root: Cid, path: &str) -> anyhow::Result<String> {
    let Resolved::File { cid, .. } = node.resolve(root, path).await? else {
        anyhow::bail!("{path} is a directory");
    };
    let pieces: Vec<Bytes> = node.read(cid, 0..MOST_BYTES).try_collect().await?;
    Ok(String::from_utf8(pieces.concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: &str, new: &[&str], gone: &[&str], expected: bool) {
        let named = BTreeSet::from([named.to_owned()]);
        let found = vanished(
            &named,
            &new.iter().copied().collect(),
            &gone.iter().copied().collect(),
        );
        assert_eq!(found.is_some(), expected, "{named:?} {new:?} {gone:?}");
    }

    #[test]
    fn what_playlists_name_stays() {
        let segment = "video/0000/5.m4s";
        check(segment, &[], &["video/0000/4.m4s", "video/000"], false);
        check(segment, &[], &[segment], true);
        check(segment, &[], &["video/0000"], true);
        check(segment, &["video"], &["video"], true);
        check(segment, &["video/0000/5.m4s/a"], &[segment], true);
        // It lies where something else was.
        check(segment, &[segment], &[segment], false);
        check(segment, &[segment], &["video"], false);
    }
}
