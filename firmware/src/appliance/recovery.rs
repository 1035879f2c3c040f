//! Taking up what the last life of the process left: a broadcast that was cut off is continued or closed.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use cid::Cid;
use node::{BroadcastId, Node, Recovered, RecoveredBroadcast};
use serde::{Deserialize, Serialize};
use stream::broadcast::Event as BroadcastEvent;
use stream::media::Rendition;
use stream::playlist::Picture;
use stream::publication::{self, Inits, Numbers, Publication, Row, rows_without, segment_path};
use stream::resume::{CutOff, Verdict};

use super::description::beside;
use super::{Appliance, to_node};
use crate::clock::{at_least, from_unix_ms, wall_now};
use crate::config::Config;
use crate::numbers;
use crate::on_air::OnAirMark;
use crate::wishes::Wishes;

/// Nobody broadcasts for longer without a clock and a disk.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// What the journal keeps of a broadcast beside its rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) started_ms: Option<u64>,
    pub(crate) first: Numbers,
    /// What must not change within a broadcast.
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    segment_ms: u64,
    width: u16,
    height: u16,
    /// Width and height of the low video, where there is one.
    #[serde(default)]
    low: Option<(u16, u16)>,
    /// Whether init segments lie in subdirectories: not so in broadcasts of earlier versions.
    #[serde(default)]
    init_dirs: bool,
}

impl Format {
    pub(super) fn of(config: &Config) -> Format {
        Format {
            segment_ms: config.hls.segment_ms,
            width: config.video.width,
            height: config.video.height,
            low: config.video.low.map(|low| (low.width, low.height)),
            init_dirs: true,
        }
    }

    /// Whether what is configured is what the broadcast has been until now. Where its init segments lie it keeps.
    fn goes_on_with(&self, config: &Config) -> bool {
        let kept = Format {
            init_dirs: self.init_dirs,
            ..Format::of(config)
        };
        *self == kept
    }

    /// What is configured now, with what the broadcast has been until now: its playlists must go on to tell the truth.
    pub(crate) fn apply(self, now: publication::Settings) -> publication::Settings {
        let sized = |video: publication::Video, resolution| publication::Video {
            picture: Picture {
                resolution,
                ..video.picture
            },
            ..video
        };
        publication::Settings {
            segment: Duration::from_millis(self.segment_ms),
            video: sized(now.video, (self.width, self.height)),
            // Of a low video that is no longer configured the measured bitrate is told.
            low: (self.low).map(|size| {
                let low = now.low.unwrap_or(publication::Video {
                    bitrate: 0,
                    ..now.video
                });
                sized(low, size)
            }),
            inits: match self.init_dirs {
                true => Inits::InDirectories,
                false => Inits::BesidePlaylists,
            },
            ..now
        }
    }
}

/// Stores ENDLIST and VOD; returns the new root.
pub(crate) async fn close(
    node: &Node,
    id: BroadcastId,
    publication: &mut Publication,
) -> anyhow::Result<Option<Cid>> {
    publication.finish();
    let Some(update) = publication.next_update() else {
        return Ok(None);
    };
    match node.publish(to_node(update)?.0.of(id)).await {
        Ok(published) => {
            publication.stored();
            Ok(Some(published.root))
        }
        Err(error) => {
            publication.failed();
            Err(error.into())
        }
    }
}

/// The rows of which nothing is `lost`, by its path.
pub(crate) fn without_lost(
    rows: Vec<Row>,
    settings: &publication::Settings,
    lost: impl Fn(&str) -> bool,
) -> Vec<Row> {
    rows_without(rows, |row| {
        let mut renditions = Rendition::ALL.iter().take(row.codecs.len());
        renditions.any(|&rendition| {
            let init = settings.inits.path(rendition, row.run);
            lost(&init) || lost(&segment_path(rendition, row.media_sequence))
        })
    })
}

/// The rows of a broadcast that has lost something and is to be closed. Its mark goes first: whoever finds these rows finds nothing
/// wrong with them, and after a power cut the box would go on with a broadcast whose playlists still name what is lost.
pub(crate) async fn replace_rows(
    node: &Node,
    mark: &OnAirMark,
    id: BroadcastId,
    rows: &[Row],
) -> anyhow::Result<()> {
    if mark.is(id) {
        mark.clear();
    }
    let rows = rows.iter().map(serde_json::to_vec);
    node.replace_rows(id, rows.collect::<Result<_, _>>()?)
        .await?;
    Ok(())
}

impl Appliance {
    /// Closes what was cut off, and goes on with the newest if it is still wanted. A broadcast that cannot be read or closed
    /// stays as it is: it does not keep the box from starting.
    pub(super) async fn recover(&mut self, recovered: Recovered, settings: publication::Settings) {
        let count = recovered.broadcasts.len();
        let mut first = Numbers::default();
        for (i, broadcast) in recovered.broadcasts.into_iter().enumerate() {
            let newest = i + 1 == count;
            if !newest && broadcast.finished {
                continue;
            }
            let id = broadcast.id;
            if let Err(error) = self.recover_one(broadcast, newest, settings).await {
                tracing::error!(%id, error = format!("{error:#}"), "a broadcast stays unfinished");
                // Whatever the broadcast's own rows say: no number may be given twice.
                match numbers::of_files(&self.node).await {
                    Ok(numbers) => first = first.max(numbers),
                    Err(error) => tracing::error!(%error, "numbers may begin anew"),
                }
            }
        }
        first = first.max(numbers::kept(&self.config.data_dir));
        self.publication.raise_numbers(first);
        if self.mark.numbers_ahead() {
            // What goes on has leapt, and leaps again in the next life unless a segment is stored.
            let goes_on = self.broadcast.active();
            if !goes_on {
                let past = self.past(&self.publication, self.since);
                self.publication.raise_numbers(past);
            }
            match numbers::keep(&self.config.data_dir, self.publication.numbers()) {
                Ok(()) if goes_on => {}
                Ok(()) => self.mark.set_from_memory(false),
                Err(error) => tracing::warn!(%error, "the next start leaps over numbers again"),
            }
        }
        self.from_memory = self.mark.numbers_ahead();
    }

    async fn recover_one(
        &mut self,
        broadcast: RecoveredBroadcast,
        newest: bool,
        settings: publication::Settings,
    ) -> anyhow::Result<()> {
        let RecoveredBroadcast {
            id,
            finished,
            mut root,
            ..
        } = broadcast;
        let (meta, mut rows) = self.read_journal(&broadcast).await?;
        let settings = meta.format.apply(settings);
        let mut whole = true;
        if !finished {
            let there = self.node.paths_of(id).await?;
            let last = rows.last().map(Numbers::after);
            let count = rows.len();
            rows = without_lost(rows, &settings, |path| !there.contains(path));
            whole = rows.len() == count;
            if let Some(last) = last.filter(|_| !whole) {
                // `fsck` has dropped them, and was cut off before it closed the broadcast, or could not.
                tracing::warn!(%id, lost = count - rows.len(), "segments are lost; closing the broadcast without them");
                numbers::keep(&self.config.data_dir, last)?;
                replace_rows(&self.node, &self.mark, id, &rows).await?;
            }
        }
        let marked = newest && !finished && whole && self.mark.is(id);
        let (verdict, cut) = match marked {
            true => self.still_wanted(&meta, rows.last()),
            false => (Verdict::Over, None),
        };
        let resume = verdict != Verdict::Over;
        let mut publication = Publication::recovered(settings, meta.first, rows, finished);
        // What was cut off before it has another root once it is closed, and some may have gone.
        publication.attach(beside(&self.node, id, &meta).await);
        let since = meta.started_ms.map(from_unix_ms);
        if resume && self.mark.numbers_ahead() {
            publication.leap(self.past(&publication, since));
        }
        let mut closed = Ok(());
        if !finished && !resume {
            tracing::info!(%id, "closing the broadcast that was cut off");
            match close(&self.node, id, &mut publication).await {
                Ok(closed) => root = closed.or(root),
                Err(error) => closed = Err(error),
            }
        }
        if newest {
            if let Some(root) = root {
                let publication = &publication;
                self.channels
                    .live
                    .send_modify(|live| live.update(publication, Some(root), None));
            }
            self.aired = (publication.rows().iter())
                .filter_map(|row| Some(row.durations.first()?.duration()))
                .sum();
            self.publication = publication;
            self.since = since;
            if resume {
                self.id = Some(id);
                self.wish(Wishes::kept(&self.config));
                self.unsure = cut.filter(|_| verdict == Verdict::Unsure);
                let awaited = self.channels.samples.borrow().clock_awaited;
                match self.unsure.and(awaited) {
                    Some(time) => {
                        tracing::info!(%id, ?time, "waiting for the time: is the broadcast that was cut off still wanted?");
                        self.step(BroadcastEvent::ResumeWithin(time));
                    }
                    None => {
                        tracing::info!(%id, "going on with the broadcast that was cut off");
                        self.step(BroadcastEvent::Resume);
                    }
                }
            } else {
                self.mark.clear();
            }
        }
        closed
    }

    async fn read_journal(
        &self,
        broadcast: &RecoveredBroadcast,
    ) -> anyhow::Result<(Meta, Vec<Row>)> {
        let other_version = "the journal is of another version of podium";
        let meta: Meta = serde_json::from_slice(&broadcast.meta).context(other_version)?;
        let raw = if broadcast.rows.is_empty() {
            self.node.rows(broadcast.id).await?
        } else {
            broadcast.rows.clone()
        };
        let rows = raw
            .iter()
            .map(|row| serde_json::from_slice(row))
            .collect::<Result<Vec<Row>, _>>()
            .context(other_version)?;
        publication::check_rows(meta.first, &rows)?;
        Ok((meta, rows))
    }

    /// Numbers behind all that viewers can have been told of from memory since the last row of the newest broadcast, which began
    /// `since`: nobody has counted them.
    fn past(&self, publication: &Publication, since: Option<SystemTime>) -> Numbers {
        let last = publication.rows().last();
        let since = last.map_or(since, |row| row.seen_ms().map(from_unix_ms));
        // A clock that may be behind says too little.
        let now = wall_now().filter(|_| self.clock_sure());
        let elapsed = (since.zip(now)).and_then(|(since, now)| now.duration_since(since).ok());
        let segment = self.config.hls.segment();
        // Runs end with short segments, and may be many.
        let most = 2 * elapsed.unwrap_or(A_DAY).as_millis() / segment.as_millis().max(1);
        let most = most as u64 + publication::MAX_WAITING as u64;
        let next = (publication.numbers()).max(numbers::kept(&self.config.data_dir));
        Numbers {
            media_sequence: next.media_sequence + most,
            run: next.run + most,
        }
    }

    /// Whether viewers may still be waiting for the broadcast that was cut off, and it can go on as it was.
    pub(super) fn still_wanted(
        &self,
        meta: &Meta,
        last: Option<&Row>,
    ) -> (Verdict, Option<CutOff>) {
        let limit = Duration::from_secs(self.config.broadcast.resume_within_s);
        if limit.is_zero() || !meta.format.goes_on_with(&self.config) {
            return (Verdict::Over, None);
        }
        let seen = match last {
            Some(row) => row.seen_ms(),
            None => meta.started_ms,
        };
        let Some(last) = seen.map(from_unix_ms) else {
            // Nobody can ever tell. The mark says that it was wanted; of one that was not stored at all nobody has waited for long.
            let verdict = last.map_or(Verdict::Over, |_| Verdict::GoesOn);
            return (verdict, None);
        };
        let found = Instant::now();
        let cut = CutOff { last, limit, found };
        (cut.judge(found, at_least(), self.clock_sure()), Some(cut))
    }

    pub(super) fn clock_sure(&self) -> bool {
        !self.channels.samples.borrow().machine.clock.may_be_wrong()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::settings;

    #[test]
    fn a_broadcast_of_an_earlier_version_goes_on_and_keeps_its_init_segments_where_they_are() {
        let config = Config::default();
        let now = Format::of(&config);
        let mut earlier = serde_json::to_value(now).unwrap();
        earlier
            .as_object_mut()
            .unwrap()
            .remove("init_dirs")
            .unwrap();
        let earlier: Format = serde_json::from_value(earlier).unwrap();
        for (format, inits) in [
            (earlier, Inits::BesidePlaylists),
            (now, Inits::InDirectories),
        ] {
            assert!(format.goes_on_with(&config));
            assert_eq!(format.apply(settings(&config)).inits, inits);
        }
        let other = Format {
            width: 320,
            ..earlier
        };
        assert!(!other.goes_on_with(&config));
    }
}
