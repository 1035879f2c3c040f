//! CMAF boxes: one init segment a track and continuity run, one `moof`+`mdat` a part (ISO/IEC 23000-19, 7.3).
//!
//! The box layouts come from `mp4-atom`; what is decided here is which boxes and flags a live track needs:
//! `default-base-is-moof`, a version 1 `tfdt` and explicit sizes in every fragment, zero durations in `moov`
//! (RFC 8216 section 3.3).

use bytes::Bytes;
use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec, Dinf, Dref, Encode, Esds, Ftyp, Hdlr, Mdhd, Mdia, Mfhd, Minf,
    Moof, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun,
    TrunEntry, Url, Visual, Vmhd, esds,
};

use crate::media::{AudioConfig, Rendition, SAMPLE_RATE, VideoConfig};

/// A box that cannot be written or an encoder's configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the {what}: {source}")]
pub struct Fmp4Error {
    what: &'static str,
    source: mp4_atom::Error,
}

fn context(what: &'static str) -> impl FnOnce(mp4_atom::Error) -> Fmp4Error {
    move |source| Fmp4Error { what, source }
}

/// Every rendition is a file with one track.
const TRACK_ID: u32 = 1;
/// `sample_depends_on = 2`: an I picture (ISO/IEC 14496-12, 8.8.3.1).
const SYNC_SAMPLE: u32 = 0x0200_0000;
/// `sample_depends_on = 1`, `sample_is_non_sync_sample = 1`.
const NON_SYNC_SAMPLE: u32 = 0x0101_0000;
/// ISO/IEC 14496-1, table 5: audio ISO/IEC 14496-3; table 6: audio stream.
const OBJECT_TYPE_AAC: u8 = 0x40;
const STREAM_TYPE_AUDIO: u8 = 0x05;

/// The init segment of an H.264 track.
pub fn video_init(config: &VideoConfig) -> Result<Bytes, Fmp4Error> {
    let avcc = Avcc::decode_body(&mut config.avcc.as_ref()).map_err(context("avcC box"))?;
    let visual = Visual {
        data_reference_index: 1,
        width: config.width,
        height: config.height,
        ..Visual::default()
    };
    let codec = Codec::Avc1(Avc1 {
        visual,
        avcc,
        btrt: None,
        colr: None,
        pasp: None,
        taic: None,
        fiel: None,
        spatial: None,
    });
    let tkhd = Tkhd {
        width: config.width.into(),
        height: config.height.into(),
        ..Tkhd::default()
    };
    init(Rendition::Video, tkhd, codec)
}

/// The init segment of an AAC track.
pub fn audio_init(config: &AudioConfig) -> Result<Bytes, Fmp4Error> {
    let codec = Codec::Mp4a(Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: config.channels,
            sample_size: 16,
            sample_rate: (SAMPLE_RATE as u16).into(),
        },
        esds: Esds {
            es_desc: esds::EsDescriptor {
                dec_config: esds::DecoderConfig {
                    object_type_indication: OBJECT_TYPE_AAC,
                    stream_type: STREAM_TYPE_AUDIO,
                    max_bitrate: config.bitrate,
                    avg_bitrate: config.bitrate,
                    dec_specific: Some(esds::DecoderSpecific {
                        raw: config.audio_specific_config.to_vec(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    });
    let tkhd = Tkhd {
        volume: 1.into(),
        ..Tkhd::default()
    };
    init(Rendition::Audio, tkhd, codec)
}

fn init(rendition: Rendition, tkhd: Tkhd, codec: Codec) -> Result<Bytes, Fmp4Error> {
    let video = rendition != Rendition::Audio;
    let ftyp = Ftyp {
        major_brand: b"iso6".into(),
        minor_version: 1,
        compatible_brands: vec![b"iso6".into(), b"cmfc".into(), b"mp41".into()],
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Default::default()
        },
        trak: vec![Trak {
            tkhd: Tkhd {
                track_id: TRACK_ID,
                enabled: true,
                in_movie: true,
                ..tkhd
            },
            mdia: Mdia {
                mdhd: Mdhd {
                    timescale: rendition.timescale(),
                    language: "und".into(),
                    ..Default::default()
                },
                hdlr: Hdlr {
                    handler: if video { b"vide" } else { b"soun" }.into(),
                    name: rendition.name().into(),
                },
                minf: Minf {
                    vmhd: video.then(Vmhd::default),
                    smhd: (!video).then(Smhd::default),
                    dinf: Dinf {
                        dref: Dref {
                            entries: vec![
                                Url {
                                    location: String::new(),
                                }
                                .into(),
                            ],
                        },
                    },
                    stbl: Stbl {
                        stsd: Stsd {
                            codecs: vec![codec],
                        },
                        stco: Some(Stco::default()),
                        ..Default::default()
                    },
                    ..Default::default()
                },
            },
            ..Default::default()
        }],
        ..Default::default()
    };
    let mvex = Mvex {
        trex: vec![Trex {
            track_id: TRACK_ID,
            default_sample_description_index: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = Vec::with_capacity(800);
    ftyp.encode(&mut out).map_err(context("ftyp box"))?;
    let start = out.len();
    moov.encode(&mut out).map_err(context("moov box"))?;
    // `mp4-atom` writes it before the track, and it has to follow the last one (RFC 8216 section 3.3).
    mvex.encode(&mut out).map_err(context("mvex box"))?;
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(out.into())
}

/// RFC 6381 codec string, read from the configuration that the decoder gets: `avc1.64001F`.
pub fn video_codec(config: &VideoConfig) -> String {
    let byte = |i: usize| config.avcc.get(i).copied().unwrap_or_default();
    format!("avc1.{:02X}{:02X}{:02X}", byte(1), byte(2), byte(3))
}

/// RFC 6381 codec string of the audio object type in an AudioSpecificConfig: `mp4a.40.2` is AAC-LC.
pub fn audio_codec(config: &AudioConfig) -> String {
    let object_type = config
        .audio_specific_config
        .first()
        .map_or(2, |byte| byte >> 3);
    format!("mp4a.40.{object_type}")
}

/// One encoded picture or audio frame with its length in ticks.
#[derive(Debug, Clone)]
pub struct Sample {
    pub duration: u32,
    pub sync: bool,
    pub data: Bytes,
}

/// One `moof`+`mdat`: a CMAF chunk that begins at `decode_time` (ticks of the rendition).
pub fn fragment(
    sequence_number: u32,
    decode_time: u64,
    samples: &[Sample],
) -> Result<Bytes, Fmp4Error> {
    let payload: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let entries: Vec<TrunEntry> = samples
        .iter()
        .map(|sample| TrunEntry {
            duration: Some(sample.duration),
            size: Some(sample.data.len() as u32),
            flags: Some(if sample.sync {
                SYNC_SAMPLE
            } else {
                NON_SYNC_SAMPLE
            }),
            cts: None,
        })
        .collect();
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_base_is_moof: true,
                ..Default::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: decode_time,
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Default::default()
        }],
    };
    let mut out = Vec::with_capacity(payload + 128 + samples.len() * 12);
    moof.encode(&mut out).map_err(context("moof box"))?;
    // The offset of the media counts from the start of `moof`, whose size is known only now.
    moof.traf[0].trun[0].data_offset = Some(out.len() as i32 + 8);
    out.clear();
    moof.encode(&mut out).map_err(context("moof box"))?;
    out.extend_from_slice(&(payload as u32 + 8).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for sample in samples {
        out.extend_from_slice(&sample.data);
    }
    Ok(out.into())
}
