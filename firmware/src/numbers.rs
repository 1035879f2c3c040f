//! The lowest media sequence and run numbers that may be given: they rise for as long as the box lives, also where the journal
//! that knows the last ones cannot be read.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use node::{Node, StoreError};
use stream::publication::Numbers;

use crate::kept;

/// Written by `fsck` where what it drops or makes again knew the last numbers, by a start after viewers were shown what was
/// never stored, or from memory without a disk, and with a key that comes from another box.
const FILE: &str = "numbers.json";

/// What was kept last; nothing where that was never needed.
pub(crate) fn kept(data_dir: &Path) -> Numbers {
    let bytes = std::fs::read(data_dir.join(FILE)).ok();
    let numbers = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    numbers.unwrap_or_default()
}

pub(crate) fn keep(data_dir: &Path, numbers: Numbers) -> std::io::Result<()> {
    let numbers = numbers.max(kept(data_dir));
    kept::store(&data_dir.join(FILE), Some(&numbers))
}

/// When no box had published anything: 2020-01-01T00:00:00Z.
const BEFORE_ALL: Duration = Duration::from_secs(1_577_836_800);

/// Each segment lasts a second or more, and a box that does not know how many it has shown from memory leaps by two for each that there
/// can have been, now and then.
pub(crate) const A_SECOND: u64 = 4;

/// Numbers that no other box can have used under the name that moves here: none has given more of them since there are any. That stays
/// true of this one, and of the next to which the name moves, but for a week and a day after it has run from memory.
pub(crate) fn unused(now: SystemTime) -> Numbers {
    let since = now.duration_since(UNIX_EPOCH + BEFORE_ALL);
    let least = since.map_or(0, |since| since.as_secs()) * A_SECOND;
    Numbers {
        media_sequence: least,
        run: least,
    }
}

/// Whether a clock was known when they began: no box has so many lives of its encoder.
pub(crate) fn by_clock(numbers: Numbers) -> bool {
    numbers.run > 1 << 20
}

/// Numbers above all that a day on air gives from these on.
pub(crate) fn a_day_after(numbers: Numbers) -> Numbers {
    const A_DAY: u64 = 24 * 3600 * A_SECOND;
    Numbers {
        media_sequence: numbers.media_sequence + A_DAY,
        run: numbers.run + A_DAY,
    }
}

/// What follows the highest numbers in the names of all segments and init segments that are stored.
pub(crate) async fn of_files(node: &Node) -> Result<Numbers, StoreError> {
    let paths = node.paths().await?;
    Ok(paths.iter().fold(Numbers::default(), |next, path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let after = |prefix, suffix| {
            let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            number.parse::<u64>().ok()?.checked_add(1)
        };
        let numbers = Numbers {
            media_sequence: after("", ".m4s").unwrap_or(0),
            run: after("init-", ".mp4").unwrap_or(0),
        };
        next.max(numbers)
    }))
}

#[cfg(test)]
mod tests {
    use node::NewFile;

    use super::*;
    use crate::clock::wall_now;

    #[test]
    fn numbers_only_rise() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept(dir.path()), Numbers::default());
        let numbers = |media_sequence, run| Numbers {
            media_sequence,
            run,
        };
        keep(dir.path(), numbers(5, 2)).unwrap();
        keep(dir.path(), numbers(4, 3)).unwrap();
        assert_eq!(kept(dir.path()), numbers(5, 3));
    }

    #[tokio::test]
    async fn what_is_stored_says_where_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (node, _) = Node::offline(dir.path(), node::Budgets::UNLIMITED, wall_now)
            .await
            .unwrap();
        assert_eq!(of_files(&node).await.unwrap(), Numbers::default());
        let broadcast = node.begin(vec![]).await.unwrap();
        let files = [
            "video/0001/299.m4s",
            "audio/0001/300.m4s",
            "video/init-7.mp4",
            "vod.m3u8",
        ];
        let update = node::Update {
            broadcast,
            row: None,
            files: files.map(|path| NewFile::new(path, path)).into(),
            finish: true,
        };
        node.publish(update).await.unwrap();
        let expected = Numbers {
            media_sequence: 301,
            run: 8,
        };
        assert_eq!(of_files(&node).await.unwrap(), expected);
    }
}
