//! Cuts encoded pictures and sound into parts and segments.
//!
//! A video segment starts at a keyframe and nowhere else, near a point of the run's grid: a keyframe that comes late makes
//! the next segment shorter, not all that follow later. Audio follows: its segment *n* starts with the AAC frame
//! nearest to the start of video segment *n*, so that both renditions always have the same number of segments. Durations
//! are differences of absolute timestamps in ticks, so they add up exactly for as long as a run lasts.
//!
//! The low video shows the same pictures at the same times. It is cut at the very keyframes of the video and nowhere else, so
//! that its segments and parts begin when those of the video do, and a player can change between the two at each segment.
//!
//! A picture's length is known when the next one arrives, so the segmenter is one frame behind its input.
//!
//! An encoder that slips is no reason to end a run: a picture that is empty, damaged or not later than the one before, and
//! sound that was there already, are dropped and [counted](Segmenter::dropped); an empty AAC frame is replaced by the one
//! before, so that sound stays in its place. What is off by more than a segment is an error.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::fmp4::{self, Fmp4Error, Sample};
use crate::media::{
    AAC_FRAME, AccessUnit, AudioConfig, AudioFrame, MediaDuration, Rendition, SAMPLE_RATE,
    VideoConfig, ticks,
};

/// How long parts and segments are meant to be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub segment: Duration,
    pub part: Duration,
    /// Length of the last picture of a run, which has no successor.
    pub frame: Duration,
    /// Whether there is a low video beside the video.
    pub low: bool,
}

/// A keyframe may come this much early and still end the segment: encoders place forced keyframes on the nearest picture.
const CUT_TOLERANCE: Duration = Duration::from_millis(100);

/// A segment whose keyframe came late may be shortened by the next one to this part of its length (a half), not further.
const SHORTEST: (u32, u32) = (1, 2);

/// A keyframe before the grid's point ends a segment from this part of its length on: then the grid began late, because the
/// run's first pictures did not reach the encoder, and to wait for the next one would break the target duration.
const OFF_GRID: (u32, u32) = (3, 4);

/// Without a keyframe for this many target durations the encoder no longer does what it was asked to.
const OVERDUE_FACTOR: u32 = 5;

/// Audio waits for the video's cuts; more than this of it waiting means that the video has died. The same holds for the cuts
/// that wait for audio and for the low video. Shorter than [`STALL`](crate::broadcast::STALL), so that who has died is named.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// What the segmenter cannot work with; the programme has to be rebuilt with a new init segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmenterError {
    /// By more than a segment; less is dropped.
    #[error("{} went back from {last:?} to {pts:?}", pictures(*rendition))]
    VideoBackwards {
        rendition: Rendition,
        last: Duration,
        pts: Duration,
    },
    #[error("audio jumped by {samples} samples")]
    AudioJump { samples: i64 },
    #[error("no keyframe for {0:?}: the encoder ignores the requests for one")]
    NoKeyframe(Duration),
    #[error("no {} for {wait:?}: its encoder has stopped", pictures(*rendition))]
    NoVideo {
        rendition: Rendition,
        wait: Duration,
    },
    #[error(
        "no keyframe of the low video at {0:?}, where the video is cut: its encoder ignores the requests for one"
    )]
    NotAligned(Duration),
    #[error("no audio for {0:?} of video: the encoder has stopped")]
    NoAudio(Duration),
    #[error("the encoder changed its configuration within a run")]
    ConfigChanged,
    #[error(transparent)]
    Fmp4(#[from] Fmp4Error),
}

/// The rendition in words.
fn pictures(rendition: Rendition) -> &'static str {
    match rendition {
        Rendition::Low => "low video",
        _ => "video",
    }
}

/// What a decoder needs before the first segment of a continuity run (RFC 8216 section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSegment {
    pub rendition: Rendition,
    /// RFC 6381 codec string.
    pub codec: String,
    pub bytes: Bytes,
}

/// A piece of a segment that can be published before the segment ends (rfc8216bis section 4.4.4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSegment {
    pub rendition: Rendition,
    /// Number of its segment within this run, from 0.
    pub segment: u64,
    /// Number within its segment, from 0.
    pub index: u32,
    /// Programme time at which it starts.
    pub start: Duration,
    pub duration: MediaDuration,
    /// Starts with a keyframe.
    pub independent: bool,
    pub bytes: Bytes,
}

/// The end of a segment; its bytes are those of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSegment {
    pub rendition: Rendition,
    /// Number within this run, from 0; the same for all renditions.
    pub segment: u64,
    /// Programme time at which it starts.
    pub start: Duration,
    pub duration: MediaDuration,
}

/// In the order in which a viewer needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Init(InitSegment),
    Part(PartialSegment),
    Segment(MediaSegment),
}

/// Segmenter of one continuity run: video, audio, and the low video where there is one.
#[derive(Debug)]
pub struct Segmenter {
    settings: Settings,
    video: Option<Track>,
    audio: Option<Track>,
    low: Option<Track>,
    configs: Configs,
    /// The last picture, whose length the next one will tell.
    pending: Option<AccessUnit>,
    /// The point of the grid at which the open video segment should end.
    next_cut: Duration,
    /// Audio that waits until the video says where the cuts are.
    waiting: VecDeque<Bytes>,
    /// First sample of `waiting`'s first frame.
    audio_next: Option<u64>,
    /// Starts of video segments that audio has not reached, in samples.
    cuts: VecDeque<u64>,
    /// Samples up to which it is certain where the video cuts are.
    decided: u64,
    /// The first picture's.
    run_start: Duration,
    /// Low pictures that wait until the video says where the cuts are, and the newest, whose length the next one will tell.
    low_waiting: VecDeque<AccessUnit>,
    /// Starts of video segments that the low video has not reached.
    low_cuts: VecDeque<Duration>,
    /// Sounds again where the encoder gives an empty one.
    last_frame: Option<Bytes>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Configs {
    video: Option<VideoConfig>,
    audio: Option<AudioConfig>,
    low: Option<VideoConfig>,
}

impl Segmenter {
    pub fn new(settings: Settings) -> Segmenter {
        Segmenter {
            settings,
            video: None,
            audio: None,
            low: None,
            configs: Configs::default(),
            pending: None,
            next_cut: Duration::ZERO,
            waiting: VecDeque::new(),
            audio_next: None,
            cuts: VecDeque::new(),
            decided: 0,
            run_start: Duration::ZERO,
            low_waiting: VecDeque::new(),
            low_cuts: VecDeque::new(),
            last_frame: None,
            dropped: 0,
        }
    }

    /// Pictures and AAC frames that could not be used.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether `config` is another one than that of this run, and [`reconfigure_video`](Self::reconfigure_video) can take it.
    /// With two videos it cannot: the run begins where both have a keyframe, and only one of them does.
    pub fn reconfigures(&self, config: &VideoConfig) -> bool {
        let known = self.configs.video.as_ref();
        !self.settings.low && known.is_some_and(|known| known != config)
    }

    /// Ends this run into `ended` and begins the next into `begun`, with another configuration of the video: what follows can
    /// only be decoded after a discontinuity, with an init segment of its own (RFC 8216 section 4.3.2.3). Sound that is beyond
    /// the last picture goes over.
    pub fn reconfigure_video(
        mut self,
        config: VideoConfig,
        ended: &mut Vec<Output>,
        begun: &mut Vec<Output>,
    ) -> Result<Segmenter, SegmenterError> {
        let mut next = Segmenter::new(self.settings);
        next.configure_video(Rendition::Video, config, begun)?;
        if let Some(audio) = self.configs.audio.take() {
            next.configure_audio(audio, begun)?;
        }
        self.end(ended)?;
        Ok(Segmenter {
            waiting: self.waiting,
            audio_next: self.audio_next,
            last_frame: self.last_frame,
            dropped: self.dropped,
            ..next
        })
    }

    /// Must be called before the first picture of `rendition`, which is the video or the low video; repeating the same
    /// configuration does nothing.
    pub fn configure_video(
        &mut self,
        rendition: Rendition,
        config: VideoConfig,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let slot = match rendition {
            Rendition::Low => &mut self.configs.low,
            _ => &mut self.configs.video,
        };
        match slot {
            Some(known) if *known == config => return Ok(()),
            Some(_) => return Err(SegmenterError::ConfigChanged),
            None => {}
        }
        out.push(Output::Init(InitSegment {
            rendition,
            codec: fmp4::video_codec(&config),
            bytes: fmp4::video_init(&config)?,
        }));
        *slot = Some(config);
        Ok(())
    }

    /// Must be called before the first audio frame; repeating the same configuration does nothing.
    pub fn configure_audio(
        &mut self,
        config: AudioConfig,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        match &self.configs.audio {
            Some(known) if *known == config => return Ok(()),
            Some(_) => return Err(SegmenterError::ConfigChanged),
            None => {}
        }
        out.push(Output::Init(InitSegment {
            rendition: Rendition::Audio,
            codec: fmp4::audio_codec(&config),
            bytes: fmp4::audio_init(&config)?,
        }));
        self.configs.audio = Some(config);
        Ok(())
    }

    /// Takes the next picture of the video or the low video. Pictures before the video's first keyframe are of no use and are
    /// dropped.
    pub fn push_video(
        &mut self,
        rendition: Rendition,
        mut unit: AccessUnit,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let Some(idr) = self.has_idr(rendition, &unit.data) else {
            self.dropped += 1;
            return Ok(());
        };
        // A segment that begins with anything else cannot be decoded from there (Apple 7.4), whatever the encoder says.
        unit.keyframe &= idr;
        let last = match rendition {
            Rendition::Low => self.low_waiting.back(),
            _ => self.pending.as_ref(),
        };
        if let Some(last) = last.map(|last| last.pts)
            && !later(unit.pts, last)
        {
            let pts = unit.pts;
            if last.saturating_sub(pts) > self.settings.segment {
                return Err(SegmenterError::VideoBackwards {
                    rendition,
                    last,
                    pts,
                });
            }
            self.dropped += 1;
            return Ok(());
        }
        match rendition {
            Rendition::Low => self.push_low(unit, out),
            _ => self.push_leading(unit, out),
        }
    }

    /// The video leads: the others are cut where it is.
    fn push_leading(
        &mut self,
        unit: AccessUnit,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let Some(pending) = self.pending.take() else {
            if unit.keyframe {
                self.begin(unit.pts);
                self.pending = Some(unit);
                self.drain_audio(out)?;
                self.drain_low(out)?;
            } else {
                self.dropped += 1;
            }
            return Ok(());
        };
        let track = self.video.as_ref().expect("begun with the first keyframe");
        let length = unit.pts.saturating_sub(track.segment_start_time);
        if length > self.settings.segment * OVERDUE_FACTOR {
            self.pending = Some(pending);
            return Err(SegmenterError::NoKeyframe(length));
        }
        self.append_video(pending, unit.pts, out)?;
        let early = unit.pts + CUT_TOLERANCE < self.next_cut;
        let (part, of) = if early { OFF_GRID } else { SHORTEST };
        let due = length * of >= self.settings.segment * part;
        if unit.keyframe && due {
            let track = self.video.as_mut().expect("begun with the first keyframe");
            track.end_segment(out)?;
            track.segment_start_time = unit.pts;
            if early {
                self.next_cut = unit.pts;
            }
            while self.next_cut <= unit.pts + CUT_TOLERANCE {
                self.next_cut += self.settings.segment;
            }
            self.cuts.push_back(ticks(unit.pts, SAMPLE_RATE));
            self.cut_low(unit.pts);
        }
        self.decided = ticks(unit.pts, SAMPLE_RATE);
        let newest = unit.pts;
        self.pending = Some(unit);
        self.drain_audio(out)?;
        self.drain_low(out)?;
        let behind = self.decided.saturating_sub(self.audio_reached());
        if behind > ticks(MAX_WAIT, SAMPLE_RATE) {
            return Err(SegmenterError::NoAudio(MAX_WAIT));
        }
        let reached = match self.low_waiting.back() {
            Some(low) => low.pts,
            None => self.run_start,
        };
        if self.settings.low && newest.saturating_sub(reached) > MAX_WAIT {
            return Err(SegmenterError::NoVideo {
                rendition: Rendition::Low,
                wait: MAX_WAIT,
            });
        }
        Ok(())
    }

    fn push_low(&mut self, unit: AccessUnit, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        if let Some(last) = self.low_waiting.back() {
            let rendition = Rendition::Low;
            let wait = unit.pts.saturating_sub(last.pts);
            if wait > MAX_WAIT {
                return Err(SegmenterError::NoVideo { rendition, wait });
            }
        }
        let newest = unit.pts;
        self.low_waiting.push_back(unit);
        self.drain_low(out)?;
        let waiting = (self.low_waiting.front()).map_or(Duration::ZERO, |first| newest - first.pts);
        if waiting > MAX_WAIT {
            return Err(SegmenterError::NoVideo {
                rendition: Rendition::Video,
                wait: MAX_WAIT,
            });
        }
        Ok(())
    }

    /// Takes the next audio frame. Frames that end before the first picture are dropped.
    pub fn push_audio(
        &mut self,
        mut frame: AudioFrame,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        if frame.data.is_empty() {
            self.dropped += 1;
            match &self.last_frame {
                Some(last) => frame.data = last.clone(),
                None => return Ok(()),
            }
        }
        let at = ticks(frame.pts, SAMPLE_RATE);
        let next = *self.audio_next.get_or_insert(at);
        let expected = next + AAC_FRAME * self.waiting.len() as u64;
        let jump = at as i64 - expected as i64;
        if jump.unsigned_abs() > AAC_FRAME {
            if jump < 0 && jump.unsigned_abs() <= ticks(self.settings.segment, SAMPLE_RATE) {
                self.dropped += 1;
                return Ok(());
            }
            return Err(SegmenterError::AudioJump { samples: jump });
        }
        self.last_frame = Some(frame.data.clone());
        self.waiting.push_back(frame.data);
        self.drain_audio(out)?;
        let waiting = AAC_FRAME * self.waiting.len() as u64;
        if waiting > ticks(MAX_WAIT, SAMPLE_RATE) {
            // An encoder that hangs holds up the other one a little later: they take their pictures from the same place.
            let video = self.pending.as_ref().map(|unit| unit.pts);
            let low = self.low_waiting.back().map(|unit| unit.pts);
            let rendition = if self.settings.low && low < video {
                Rendition::Low
            } else {
                Rendition::Video
            };
            return Err(SegmenterError::NoVideo {
                rendition,
                wait: MAX_WAIT,
            });
        }
        Ok(())
    }

    /// Ends the run: the last picture gets the nominal length and all tracks end their segment.
    pub fn finish(mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        self.end(out)
    }

    /// What holds between two calls, unless one has failed.
    ///
    /// # Panics
    /// Where it does not, for tests and fuzzers.
    pub fn check_invariants(&self) {
        assert!(
            self.waiting.len() as u64 * AAC_FRAME <= ticks(MAX_WAIT, SAMPLE_RATE),
            "sound waits without bound"
        );
        let low = self.low_waiting.front().zip(self.low_waiting.back());
        assert!(
            low.is_none_or(|(first, last)| last.pts - first.pts <= MAX_WAIT),
            "low pictures wait without bound"
        );
        let (Some(video), Some(audio), Some(low)) = (&self.video, &self.audio, &self.low) else {
            assert!(self.pending.is_none() && self.cuts.is_empty());
            return;
        };
        let pending = self.pending.as_ref().expect("the last picture waits");
        assert_eq!(self.decided, ticks(pending.pts, SAMPLE_RATE));
        assert!(pending.pts >= video.segment_start_time);
        let behind = self.decided.saturating_sub(self.audio_reached());
        assert!(
            behind <= ticks(MAX_WAIT, SAMPLE_RATE),
            "pictures wait without bound"
        );
        assert_eq!(
            video.segment,
            audio.segment + self.cuts.len() as u64,
            "sound ends a segment for each that the picture has ended"
        );
        if self.settings.low {
            assert_eq!(
                video.segment + u64::from(!low.started),
                low.segment + self.low_cuts.len() as u64,
                "and so does the low video, which is cut where it begins too"
            );
        }
        assert!(self.cuts.iter().is_sorted() && self.low_cuts.iter().is_sorted());
        assert!(self.cuts.back().is_none_or(|cut| *cut <= self.decided));
        for track in [video, audio, low] {
            track.check_invariants();
        }
    }

    fn end(&mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let end = pending.pts.saturating_add(self.settings.frame);
        self.append_video(pending, end, out)?;
        self.decided = ticks(end, SAMPLE_RATE);
        self.drain_audio(out)?;
        while let Some(unit) = self.low_waiting.pop_front()
            && unit.pts < end
        {
            let next = self
                .low_waiting
                .front()
                .map_or(end, |next| next.pts.min(end));
            self.append_low(unit, next, out)?;
        }
        for track in [&mut self.video, &mut self.audio, &mut self.low]
            .into_iter()
            .flatten()
        {
            track.end_segment(out)?;
        }
        Ok(())
    }

    /// Whether an access unit has an IDR slice (ITU-T H.264 table 7-1: type 5); `None` if its NAL units do not fill it (ISO/IEC
    /// 14496-15, 5.3.4.2), or no decoder is set up for it.
    fn has_idr(&self, rendition: Rendition, unit: &[u8]) -> Option<bool> {
        let config = match rendition {
            Rendition::Low => &self.configs.low,
            _ => &self.configs.video,
        };
        let length_size = usize::from(config.as_ref()?.avcc.get(4)? & 3) + 1;
        let (mut rest, mut idr, mut slices) = (unit, false, false);
        while !rest.is_empty() {
            let (length, nal) = rest.split_at_checked(length_size)?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let (nal, after) = nal.split_at_checked(length)?;
            let kind = nal.first()? & 0x1f;
            idr |= kind == 5;
            slices |= (1..=5).contains(&kind);
            rest = after;
        }
        slices.then_some(idr)
    }

    /// Sample up to which there is audio in the run, or at which it starts.
    fn audio_reached(&self) -> u64 {
        let start = ticks(self.run_start, SAMPLE_RATE);
        self.audio_next.map_or(start, |next| {
            start.max(next + AAC_FRAME * self.waiting.len() as u64)
        })
    }

    fn begin(&mut self, start: Duration) {
        self.run_start = start;
        self.next_cut = start + self.settings.segment;
        self.video = Some(Track::new(Rendition::Video, start, self.settings.part));
        self.audio = Some(Track::new(Rendition::Audio, start, self.settings.part));
        self.low = Some(Track::new(Rendition::Low, start, self.settings.part));
        self.cut_low(start);
        self.decided = ticks(start, SAMPLE_RATE);
    }

    fn append_video(
        &mut self,
        unit: AccessUnit,
        end: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let track = self.video.as_mut().expect("begun with the first keyframe");
        track.append_picture(unit, end, out)
    }

    /// Moves on the low pictures whose place between the cuts is certain: those that are no newer than the video's newest.
    fn drain_low(&mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        let Some(newest) = self.pending.as_ref().map(|unit| unit.pts) else {
            return Ok(());
        };
        while let [first, next, ..] = self.low_waiting.make_contiguous()
            && first.pts <= newest
        {
            let end = next.pts;
            let unit = self.low_waiting.pop_front().expect("there are two");
            self.append_low(unit, end, out)?;
        }
        Ok(())
    }

    fn cut_low(&mut self, at: Duration) {
        if self.settings.low {
            self.low_cuts.push_back(at);
        }
    }

    fn append_low(
        &mut self,
        unit: AccessUnit,
        end: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let track = self.low.as_mut().expect("begun with the first keyframe");
        match self.low_cuts.front() {
            Some(cut) if *cut == unit.pts && unit.keyframe => {
                self.low_cuts.pop_front();
                track.end_segment(out)?;
            }
            Some(cut) if *cut <= unit.pts => return Err(SegmenterError::NotAligned(*cut)),
            // Before the video's first.
            _ if !track.started => return Ok(()),
            _ => {}
        }
        track.append_picture(unit, end, out)
    }

    /// Moves on the audio whose place between the cuts is certain.
    fn drain_audio(&mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        let (Some(track), Some(mut next)) = (self.audio.as_mut(), self.audio_next) else {
            return Ok(());
        };
        let first = ticks(track.segment_start_time, SAMPLE_RATE);
        loop {
            let at = next;
            let after_cut = (self.cuts.front()).is_some_and(|cut| at + AAC_FRAME / 2 > *cut);
            // The segment is complete with its own frames: for the next one viewers need not wait.
            if after_cut && track.segment_duration > 0 {
                self.cuts.pop_front();
                track.end_segment(out)?;
                continue;
            }
            if at + AAC_FRAME / 2 > self.decided {
                break;
            }
            let Some(data) = self.waiting.pop_front() else {
                break;
            };
            next += AAC_FRAME;
            if !track.started && at + AAC_FRAME / 2 < first {
                continue;
            }
            if after_cut {
                // The sound starts so late that its segments would no longer have the numbers of the video's.
                return Err(SegmenterError::NoAudio(self.settings.segment));
            }
            let sample = Sample {
                duration: AAC_FRAME as u32,
                sync: true,
                data,
            };
            track.append(at, sample, out)?;
        }
        self.audio_next = Some(next);
        Ok(())
    }
}

/// Whether there is at least a tick between two pictures.
fn later(pts: Duration, last: Duration) -> bool {
    let timescale = Rendition::Video.timescale();
    ticks(pts, timescale) > ticks(last, timescale)
}

/// What is open of one rendition: the segment and the part in it.
#[derive(Debug)]
struct Track {
    rendition: Rendition,
    part_target: u64,
    started: bool,
    segment: u64,
    segment_start: u64,
    segment_start_time: Duration,
    segment_duration: u64,
    part_index: u32,
    part_start: u64,
    part_duration: u64,
    samples: Vec<Sample>,
    sequence_number: u32,
}

impl Track {
    fn new(rendition: Rendition, start: Duration, part: Duration) -> Track {
        Track {
            rendition,
            part_target: ticks(part, rendition.timescale()),
            started: false,
            segment: 0,
            segment_start: 0,
            segment_start_time: start,
            segment_duration: 0,
            part_index: 0,
            part_start: 0,
            part_duration: 0,
            samples: Vec::new(),
            sequence_number: 1,
        }
    }

    fn append_picture(
        &mut self,
        unit: AccessUnit,
        end: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let timescale = self.rendition.timescale();
        let (from, to) = (ticks(unit.pts, timescale), ticks(end, timescale));
        let sample = Sample {
            duration: (to - from) as u32,
            sync: unit.keyframe,
            data: unit.data,
        };
        self.append(from, sample, out)
    }

    fn append(
        &mut self,
        at: u64,
        sample: Sample,
        out: &mut Vec<Output>,
    ) -> Result<(), SegmenterError> {
        let duration = u64::from(sample.duration);
        // A part is never longer than the part target (rfc8216bis 4.4.4.9), so it ends before the sample that would make it so.
        if !self.samples.is_empty() && self.part_duration + duration > self.part_target {
            self.end_part(out)?;
        }
        if self.samples.is_empty() {
            self.part_start = at;
        }
        if self.segment_duration == 0 {
            self.segment_start = at;
        }
        self.started = true;
        self.part_duration += duration;
        self.segment_duration += duration;
        self.samples.push(sample);
        Ok(())
    }

    fn end_part(&mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let bytes = fmp4::fragment(self.sequence_number, self.part_start, &self.samples)?;
        out.push(Output::Part(PartialSegment {
            rendition: self.rendition,
            segment: self.segment,
            index: self.part_index,
            start: self.media_duration(self.part_start).duration(),
            duration: self.media_duration(self.part_duration),
            independent: self.samples[0].sync,
            bytes,
        }));
        self.samples.clear();
        self.part_duration = 0;
        self.part_index += 1;
        self.sequence_number += 1;
        Ok(())
    }

    fn end_segment(&mut self, out: &mut Vec<Output>) -> Result<(), SegmenterError> {
        self.end_part(out)?;
        if self.part_index == 0 {
            return Ok(());
        }
        let duration = self.media_duration(self.segment_duration);
        let start = self.media_duration(self.segment_start);
        out.push(Output::Segment(MediaSegment {
            rendition: self.rendition,
            segment: self.segment,
            start: start.duration(),
            duration,
        }));
        self.segment += 1;
        self.part_index = 0;
        self.segment_duration = 0;
        Ok(())
    }

    fn check_invariants(&self) {
        let open: u64 = self.samples.iter().map(|it| u64::from(it.duration)).sum();
        assert_eq!(self.part_duration, open);
        assert!(
            open <= self.part_target || self.samples.len() == 1,
            "a part is longer than its target"
        );
        assert!(
            self.samples
                .iter()
                .all(|it| it.duration > 0 && !it.data.is_empty())
        );
        assert!(self.segment_duration >= open);
        assert!(self.part_index > 0 || self.segment_duration == open);
    }

    fn media_duration(&self, ticks: u64) -> MediaDuration {
        MediaDuration {
            ticks,
            timescale: self.rendition.timescale(),
        }
    }
}
