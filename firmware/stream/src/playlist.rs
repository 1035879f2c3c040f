//! HLS playlists as values (RFC 8216 section 4). Writing one out is its `Display`.

use std::fmt;
use std::time::SystemTime;

use crate::media::MediaDuration;

/// `EXT-X-MAP` outside I-frame playlists needs version 6 (RFC 8216 section 7).
pub(crate) const VERSION: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaylistType {
    /// May lose segments at its head: the tag is absent (RFC 8216 section 4.3.3.5).
    Sliding,
    /// From the start, and only ever appended to.
    Event,
    /// Whole and final.
    Vod,
}

/// The number of discontinuities is written as what is left of it by this. hls.js 1.7.4 goes through all below it with each playlist that it
/// reads (`initPTS.some`): at those of a box that began by the clock, 870 million, a page stood still for half a minute.
pub const DISCONTINUITIES: u64 = 1 << 16;

/// One rendition's segments.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPlaylist {
    pub playlist_type: PlaylistType,
    /// Seconds; never changes within a broadcast.
    pub target_duration: u64,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub segments: Vec<PlaylistSegment>,
    pub ended: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlaylistSegment {
    pub uri: String,
    pub duration: MediaDuration,
    /// The timestamps do not go on from the segment before.
    pub discontinuity: bool,
    /// URI of the init segment.
    pub map: String,
    pub program_date_time: Option<SystemTime>,
}

impl fmt::Display for MediaPlaylist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f, VERSION)?;
        self.write_segments(f, None)?;
        self.write_end(f)
    }
}

impl MediaPlaylist {
    /// The text without its head, as it goes on after a segment whose init segment is `map`.
    pub(crate) fn continued(&self, map: &str) -> String {
        let mut text = String::new();
        self.write_segments(&mut text, Some(map))
            .and_then(|()| self.write_end(&mut text))
            .expect("a string takes every text");
        text
    }

    fn write_segments<'a>(
        &'a self,
        f: &mut impl fmt::Write,
        mut map: Option<&'a str>,
    ) -> fmt::Result {
        for segment in &self.segments {
            segment.write_head(f, &mut map)?;
            segment.write_uri(f)?;
        }
        Ok(())
    }

    pub(crate) fn write_head(&self, f: &mut impl fmt::Write, version: u32) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{version}")?;
        writeln!(f, "#EXT-X-TARGETDURATION:{}", self.target_duration)?;
        writeln!(f, "#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence)?;
        // Always there: players require it once a discontinuity occurs, and that is not known beforehand (Apple 8.17).
        let discontinuities = self.discontinuity_sequence % DISCONTINUITIES;
        writeln!(f, "#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}")?;
        match self.playlist_type {
            PlaylistType::Sliding => Ok(()),
            PlaylistType::Event => writeln!(f, "#EXT-X-PLAYLIST-TYPE:EVENT"),
            PlaylistType::Vod => writeln!(f, "#EXT-X-PLAYLIST-TYPE:VOD"),
        }
    }

    pub(crate) fn write_end(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if self.ended {
            writeln!(f, "#EXT-X-ENDLIST")?;
        }
        Ok(())
    }
}

impl PlaylistSegment {
    /// What must stand before the segment and before its first part. `map` is the init segment that is in force.
    pub(crate) fn write_head<'a>(
        &'a self,
        f: &mut impl fmt::Write,
        map: &mut Option<&'a str>,
    ) -> fmt::Result {
        if self.discontinuity {
            writeln!(f, "#EXT-X-DISCONTINUITY")?;
        }
        if *map != Some(&self.map) {
            writeln!(f, "#EXT-X-MAP:URI=\"{}\"", self.map)?;
            *map = Some(&self.map);
        }
        write_date(f, self.program_date_time)
    }

    pub(crate) fn write_uri(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let seconds = self.duration.seconds();
        writeln!(f, "#EXTINF:{seconds:.6},\n{}", self.uri)
    }
}

pub(crate) fn write_date(f: &mut impl fmt::Write, time: Option<SystemTime>) -> fmt::Result {
    match time.map(humantime::format_rfc3339_millis) {
        Some(time) => writeln!(f, "#EXT-X-PROGRAM-DATE-TIME:{time}"),
        None => Ok(()),
    }
}

/// The playlist of playlists: each video with the sound, and the sound alone (RFC 8216 section 4.3.4).
#[derive(Debug, Clone, PartialEq)]
pub struct MultivariantPlaylist {
    /// A player that knows nothing of its link begins with the first.
    pub videos: Vec<Variant>,
    pub audio: Variant,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub uri: String,
    /// RFC 6381.
    pub codec: String,
    /// Upper bound of any segment, bits per second.
    pub bandwidth: u64,
    /// Bits per second.
    pub average_bandwidth: u64,
    /// Of a video.
    pub picture: Option<Picture>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// Pixels.
    pub resolution: (u16, u16),
    /// Frames per second.
    pub frame_rate: f64,
}

impl fmt::Display for MultivariantPlaylist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audio = &self.audio;
        writeln!(
            f,
            "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS"
        )?;
        writeln!(
            f,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Programme\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"{}\"",
            audio.uri
        )?;
        for video in &self.videos {
            write!(
                f,
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{},{}\"",
                video.bandwidth + audio.bandwidth,
                video.average_bandwidth + audio.average_bandwidth,
                video.codec,
                audio.codec,
            )?;
            if let Some(picture) = video.picture {
                let (width, height) = picture.resolution;
                write!(f, ",RESOLUTION={width}x{height}")?;
                write!(f, ",FRAME-RATE={:.3}", picture.frame_rate)?;
            }
            writeln!(f, ",AUDIO=\"audio\"\n{}", video.uri)?;
        }
        writeln!(
            f,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\",AUDIO=\"audio\"\n{}",
            audio.bandwidth, audio.average_bandwidth, audio.codec, audio.uri
        )
    }
}
