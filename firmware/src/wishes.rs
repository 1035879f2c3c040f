//! What the operator has set for one broadcast. It holds through every life of the encoder and of the process: a power cut
//! must not put a room on air that was muted. With the broadcast it ends.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::config::{Config, VIDEO_KBPS};
use crate::kept::Kept;

pub(crate) const FILE: &str = "wishes.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    pub(crate) muted: bool,
    /// kbit/s, of [`VIDEO_KBPS`].
    pub(crate) video_kbps: u32,
}

impl Wishes {
    /// A broadcast begins with its sound, and as configured.
    pub(crate) fn none(config: &Config) -> Wishes {
        Wishes {
            muted: false,
            video_kbps: config.video.bitrate_kbps,
        }
    }

    /// Keeps them on the disk.
    pub(crate) fn keeper(config: &Config) -> Kept<Wishes> {
        Kept::at(
            config.data_dir.join(FILE),
            "cannot keep mute and bitrate; after a power cut the box goes on as before",
        )
    }

    /// What was kept by an earlier life of the process. Where that is garbled, nobody hears what may not be for them.
    pub(crate) fn kept(config: &Config) -> Wishes {
        let path = config.data_dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Wishes::none(config),
            text => text.map_err(anyhow::Error::from),
        };
        match text.and_then(|text| Ok(serde_json::from_slice::<Wishes>(&text)?)) {
            Ok(wishes) if VIDEO_KBPS.contains(&wishes.video_kbps) => wishes,
            Ok(wishes) => Wishes {
                muted: wishes.muted,
                ..Wishes::none(config)
            },
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read whether the broadcast was muted; muted");
                Wishes {
                    muted: true,
                    ..Wishes::none(config)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::store;

    #[test]
    fn what_was_kept_is_read_and_what_cannot_be_read_is_muted() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().into(),
            ..Config::default()
        };
        let check = |muted, video_kbps| {
            assert_eq!(Wishes::kept(&config), Wishes { muted, video_kbps });
        };
        check(false, 3000);
        for (muted, video_kbps) in [(false, 500), (true, 20_000)] {
            let wishes = Wishes { muted, video_kbps };
            store(&dir.path().join(FILE), Some(&wishes)).unwrap();
            check(muted, video_kbps);
        }
        for (text, muted) in [
            ("", true),
            ("{\"muted\":", true),
            ("{\"muted\":false,\"video_kbps\":1}", false),
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            check(muted, 3000);
        }
    }
}
