//! What the media itself says: init segments and fragments (ISO/IEC 14496-12, RFC 8216 section 3.3).
//!
//! `mp4parse` (Firefox's) reads the sample descriptions and `h264-reader` the SPS; fragments are read by a small walker,
//! since `mp4parse` reads `moov` only.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal as _, RefNal};
use mp4parse::{AudioCodecSpecific, CodecType, SampleEntry, TrackType, VideoCodecSpecific};

use crate::rules::{Rule, catalogue};

/// A fault of an init segment.
pub(crate) type Fault = (&'static Rule, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Track {
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    pub(crate) timescale: u64,
    /// RFC 6381, as far as it is known: `avc1.4D401E`, `mp4a.40.2`.
    pub(crate) codec: Option<String>,
    /// Of the SPS, pixels.
    pub(crate) resolution: Option<(u32, u32)>,
    /// Bytes before each NAL unit.
    nal_length: Option<usize>,
    default_duration: u32,
    default_size: u32,
    default_flags: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Init {
    pub(crate) tracks: Vec<Track>,
    pub(crate) faults: Vec<Fault>,
}

/// What one segment or part holds of one track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) track: u32,
    pub(crate) kind: Kind,
    pub(crate) timescale: u64,
    /// Ticks.
    pub(crate) start: u64,
    /// Ticks.
    pub(crate) end: u64,
    /// Ticks.
    pub(crate) longest_sample: u64,
    pub(crate) samples: usize,
    /// What the flags say of the first sample.
    pub(crate) sync: bool,
    /// What the bytes of the first sample say, where it is H.264.
    pub(crate) idr: Option<bool>,
    /// Each sample's duration, composition offset and bytes, as a hash.
    pub(crate) content: Vec<u64>,
}

impl Run {
    pub(crate) fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.timescale.max(1) as f64
    }
}

fn be(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

/// Name, offset of the box, and its content; stops where the sizes make no sense.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let (size, header) = match be(bytes, start, 4)? {
            0 => (bytes.len() - start, 8),
            1 => (be(bytes, start + 8, 8)? as usize, 16),
            size => (size as usize, 8),
        };
        let name = bytes.get(start + 4..start + 8)?.try_into().ok()?;
        let content = bytes.get(start + header..start.checked_add(size)?)?;
        at = start + size;
        Some((name, start, content))
    })
}

fn child<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else {
        return Some(bytes);
    };
    let (_, _, content) = boxes(bytes).find(|(name, _, _)| name == *first)?;
    child(content, rest)
}

/// Whether these bytes begin as fragmented MP4 does.
pub(crate) fn is_fmp4(bytes: &[u8]) -> bool {
    matches!(
        bytes.get(4..8),
        Some(b"styp" | b"moof" | b"sidx" | b"ftyp" | b"prft" | b"emsg")
    )
}

pub(crate) fn read_init(bytes: &[u8]) -> Init {
    let mut init = Init::default();
    let mut fault = |rule, detail: String| init.faults.push((rule, detail));
    let Some(moov) = child(bytes, &[b"moov"]) else {
        fault(&catalogue::INIT_UNREADABLE, "it has no moov box".into());
        return init;
    };
    let brands: Vec<&[u8]> = child(bytes, &[b"ftyp"]).map_or_else(Vec::new, |it| {
        let (major, rest) = it.split_at(it.len().min(4));
        let compatible = rest.get(4..).unwrap_or_default().chunks(4);
        std::iter::once(major).chain(compatible).collect()
    });
    if !brands.iter().any(|brand| at_least_iso6(brand)) {
        let brands: Vec<_> = brands
            .iter()
            .map(|it| String::from_utf8_lossy(it))
            .collect();
        fault(&catalogue::INIT_BRAND_TOO_OLD, brands.join(" "));
    }
    let order: Vec<[u8; 4]> = boxes(moov).map(|(name, _, _)| name).collect();
    let place = |name: &[u8; 4]| order.iter().rposition(|it| it == name);
    if place(b"mvex").is_none() || place(b"mvex") < place(b"trak") {
        fault(
            &catalogue::INIT_WITHOUT_MVEX,
            "no mvex after the last trak".into(),
        );
    }
    let mut durations = vec![("mvhd", child(moov, &[b"mvhd"]), 16)];
    for (name, _, trak) in boxes(moov) {
        if &name == b"trak" {
            durations.push(("tkhd", child(trak, &[b"tkhd"]), 20));
        }
    }
    for (name, content, at) in durations {
        let duration = content.and_then(|it| match it.first()? {
            // In version 1 the two times before it have 8 bytes each, and so has it.
            1 => be(it, at + 8, 8),
            _ => be(it, at, 4),
        });
        if duration.is_some_and(|it| it != 0 && it != u64::from(u32::MAX)) {
            fault(
                &catalogue::INIT_WITH_DURATION,
                format!("{name}: {duration:?}"),
            );
        }
    }
    let context = match mp4parse::read_mp4(&mut std::io::Cursor::new(bytes)) {
        Ok(context) => context,
        Err(error) => {
            fault(&catalogue::INIT_UNREADABLE, format!("{error:?}"));
            return init;
        }
    };
    for track in &context.tracks {
        let id = track.track_id.unwrap_or_default();
        let timed = track.stts.as_ref().is_some_and(|it| !it.samples.is_empty());
        let sized = track
            .stsz
            .as_ref()
            .is_some_and(|it| !it.sample_sizes.is_empty());
        if timed || sized {
            fault(
                &catalogue::INIT_WITH_SAMPLES,
                format!("track {id} has samples in moov"),
            );
        }
        let trex = child(moov, &[b"mvex"]).and_then(|mvex| {
            let mut all = boxes(mvex).filter(|(name, _, _)| name == b"trex");
            all.find(|(_, _, it)| be(it, 4, 4) == Some(u64::from(id)))
        });
        let default = |at| trex.and_then(|(_, _, it)| be(it, at, 4)).unwrap_or(0) as u32;
        let mut known = Track {
            id,
            kind: match track.track_type {
                TrackType::Video | TrackType::Picture => Kind::Video,
                TrackType::Audio => Kind::Audio,
                _ => Kind::Other,
            },
            timescale: track.timescale.map_or(0, |it| it.0),
            codec: None,
            resolution: None,
            nal_length: None,
            default_duration: default(12),
            default_size: default(16),
            default_flags: default(20),
        };
        let entries = track.stsd.as_ref().map(|it| &it.descriptions);
        match entries.and_then(|it| it.first()) {
            Some(SampleEntry::Video(video)) => {
                if let VideoCodecSpecific::AVCConfig(avcc) = &video.codec_specific {
                    known.read_avcc(avcc, &mut fault);
                }
            }
            Some(SampleEntry::Audio(audio)) => {
                if let AudioCodecSpecific::ES_Descriptor(esds) = &audio.codec_specific
                    && esds.audio_codec == CodecType::AAC
                {
                    let object_type = esds.audio_object_type.unwrap_or(2);
                    known.codec = Some(format!("mp4a.40.{object_type}"));
                }
            }
            _ => {}
        }
        init.tracks.push(known);
    }
    init
}

fn at_least_iso6(brand: &[u8]) -> bool {
    // The CMAF brands ask for more than iso6 (ISO/IEC 23000-19, 7.2).
    matches!(brand, b"cmfc" | b"cmf2" | b"cmfs")
        || brand.len() == 4
            && brand.starts_with(b"iso")
            && matches!(brand[3], b'6'..=b'9' | b'a'..=b'z')
            && brand[3] != b'm'
}

impl Track {
    fn read_avcc(&mut self, avcc: &[u8], fault: &mut impl FnMut(&'static Rule, String)) {
        let Ok(config) = AvcDecoderConfigurationRecord::try_from(avcc) else {
            fault(
                &catalogue::INIT_UNREADABLE,
                "its avcC box is damaged".into(),
            );
            return;
        };
        self.codec = Some(format!(
            "avc1.{:02X}{:02X}{:02X}",
            avcc[1], avcc[2], avcc[3]
        ));
        self.nal_length = Some(usize::from(config.length_size_minus_one()) + 1);
        let sps = config.sequence_parameter_sets().next();
        let sps = sps.and_then(Result::ok).and_then(|nal| {
            let nal = RefNal::new(nal, &[], true);
            SeqParameterSet::from_bits(nal.rbsp_bits()).ok()
        });
        let Some(sps) = sps else {
            fault(
                &catalogue::INIT_UNREADABLE,
                "no SPS that can be read".into(),
            );
            return;
        };
        let told = [avcc[1], avcc[3]];
        let is = [u8::from(sps.profile_idc), sps.level_idc];
        if told != is {
            let detail = format!("profile and level are {told:?} in avcC, {is:?} in the SPS");
            fault(&catalogue::AVCC_DISAGREES_WITH_SPS, detail);
        }
        self.resolution = sps.pixel_dimensions().ok();
    }
}

/// What a segment or part holds, a row for each track. Faults are those of the fragments.
pub(crate) fn read_fragments(bytes: &[u8], init: &Init, faults: &mut Vec<Fault>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (name, at, moof) in boxes(bytes) {
        if &name != b"moof" {
            continue;
        }
        for (_, _, traf) in boxes(moof).filter(|(name, _, _)| name == b"traf") {
            if let Err(fault) = read_traf(&bytes[at..], traf, init, &mut runs) {
                faults.push(fault);
            }
        }
    }
    if runs.is_empty() && faults.is_empty() {
        let detail = "no fragment of a track that its init segment has".into();
        faults.push((&catalogue::SEGMENT_UNREADABLE, detail));
    }
    runs
}

fn read_traf(file: &[u8], traf: &[u8], init: &Init, runs: &mut Vec<Run>) -> Result<(), Fault> {
    let damaged = |what: &str| {
        (
            &catalogue::SEGMENT_UNREADABLE,
            format!("damaged {what} box"),
        )
    };
    let tfhd = child(traf, &[b"tfhd"]).ok_or_else(|| damaged("tfhd"))?;
    let id = be(tfhd, 4, 4).ok_or_else(|| damaged("tfhd"))? as u32;
    let Some(track) = init.tracks.iter().find(|track| track.id == id) else {
        let detail = format!("it has track {id}, which the init segment has not");
        return Err((&catalogue::SEGMENT_UNREADABLE, detail));
    };
    let flags = be(tfhd, 1, 3).unwrap_or(0);
    if flags & 1 != 0 {
        let detail = "tfhd has a base data offset".into();
        return Err((&catalogue::ADDRESSING_NOT_RELATIVE, detail));
    }
    let mut at = 8 + if flags & 2 != 0 { 4 } else { 0 };
    let mut default = |flag: u64, otherwise: u32| {
        if flags & flag == 0 {
            return otherwise;
        }
        at += 4;
        be(tfhd, at - 4, 4).unwrap_or(0) as u32
    };
    let duration = default(8, track.default_duration);
    let size = default(0x10, track.default_size);
    let sample_flags = default(0x20, track.default_flags);
    let Some(tfdt) = child(traf, &[b"tfdt"]) else {
        return Err((&catalogue::TFDT_MISSING, format!("track {id}")));
    };
    let start = match tfdt.first() {
        Some(1) => be(tfdt, 4, 8),
        _ => be(tfdt, 4, 4),
    };
    let start = start.ok_or_else(|| damaged("tfdt"))?;
    let mut run = Run {
        track: id,
        kind: track.kind,
        timescale: track.timescale,
        start,
        end: start,
        longest_sample: 0,
        samples: 0,
        sync: false,
        idr: None,
        content: Vec::new(),
    };
    let mut from = 0;
    for (_, _, trun) in boxes(traf).filter(|(name, _, _)| name == b"trun") {
        let flags = be(trun, 1, 3).ok_or_else(|| damaged("trun"))?;
        let count = be(trun, 4, 4).ok_or_else(|| damaged("trun"))?;
        // Where size and duration are the fragment's own, samples take no room in the box: it may name any number of them.
        let named: usize = runs.iter().map(|run| run.samples).sum();
        if (named + run.samples) as u64 + count > file.len() as u64 {
            return Err(damaged("trun"));
        }
        let mut at = 8;
        let mut field = |present: u64| {
            if flags & present == 0 {
                return Ok(None);
            }
            at += 4;
            let value = be(trun, at - 4, 4).ok_or_else(|| damaged("trun"))?;
            Ok(Some(value as u32))
        };
        // Without an offset it goes on where the run before ended.
        from = field(1)?.map_or(from, |offset| offset as usize);
        let first_flags = field(4)?;
        for i in 0..count {
            let duration = u64::from(field(0x100)?.unwrap_or(duration));
            let size = field(0x200)?.unwrap_or(size) as usize;
            let own_flags = field(0x400)?;
            let composition = field(0x800)?;
            let sample = file.get(from..from.saturating_add(size));
            from = from.saturating_add(size);
            let mut hash = DefaultHasher::new();
            (duration, composition.unwrap_or(0), sample).hash(&mut hash);
            run.content.push(hash.finish());
            if run.samples == 0 {
                let flags = if i == 0 { first_flags } else { None };
                run.sync = flags.or(own_flags).unwrap_or(sample_flags) & 0x1_0000 == 0;
                if let (Some(length), Some(sample)) = (track.nal_length, sample) {
                    run.idr = Some(has_idr(sample, length));
                }
            }
            run.samples += 1;
            run.end = run.end.saturating_add(duration);
            run.longest_sample = run.longest_sample.max(duration);
        }
    }
    match runs.iter_mut().find(|known| known.track == id) {
        None => runs.push(run),
        Some(known) => {
            let gap = known.end.abs_diff(run.start);
            let (from, to) = (known.end, run.start);
            known.end = run.end;
            known.samples += run.samples;
            known.content.append(&mut run.content);
            known.longest_sample = known.longest_sample.max(run.longest_sample);
            if known.seconds(gap) > crate::rules::CONTINUITY {
                let detail = format!("within it, track {id} goes from {from} to {to}");
                return Err((&catalogue::TFDT_GAP, detail));
            }
        }
    }
    Ok(())
}

/// Whether an access unit has an IDR slice (ITU-T H.264 table 7-1: type 5).
fn has_idr(sample: &[u8], length: usize) -> bool {
    let mut at = 0;
    while let (Some(size), Some(header)) = (be(sample, at, length), sample.get(at + length)) {
        if header & 0x1f == 5 {
            return true;
        }
        at += length + size as usize;
    }
    false
}
