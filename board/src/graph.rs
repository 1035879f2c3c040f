//! The way of a bridge's pictures through its receiver, where the receiver's driver leaves that to us ("media-controller-centric":
//! `rp1-cfe` of a Raspberry Pi 5, and `unicam` where the overlay says so). Chip, receiver and video node are *entities* of a *media
//! graph*. They have *pads*, each with a format of its own, and *links* from a source pad to a sink pad, some of which are off. The
//! kernel streams only where both ends of each link on the way say the same (otherwise EPIPE), down to the colours: `rp1-cfe`
//! begins with `raw`, and a TC358743 has `smpte170m` (raspberrypi/linux#7523).
//!
//! Asked of `media-ctl`, which is in one package with `v4l2-ctl`.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bridge::{self, Timings};
use crate::program;

/// How a video node gives its pictures, in V4L2's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Four characters: `UYVY`.
    pub pixels: String,
    /// `smpte170m`; absent where the chip does not say.
    pub colorspace: Option<String>,
}

/// What is asked of the chip, best first: what costs the least bus, and no conversion from RGB. With V4L2's numbers
/// (Documentation/userspace-api/media/v4l/subdev-formats.rst), because `v4l2-ctl` wants those.
const CODES: [(&str, u32); 4] = [
    ("UYVY8_1X16", 0x200f),
    ("YUYV8_1X16", 0x2011),
    ("RGB888_1X24", 0x100a),
    ("BGR888_1X24", 0x1013),
];

/// Leads pictures of these timings from the chip's subdevice to the video node. Where both are one device there is nothing to lead, and
/// the node has what the chip gives.
///
/// # Errors
/// There is no way from one to the other, or its drivers do not take it; what they say. One that streams takes nothing.
pub fn lead(chip: &Path, video: &Path, timings: &Timings) -> Result<Option<Format>, String> {
    if chip == video {
        return Ok(None);
    }
    let (media, way) = find(chip, video)?.ok_or_else(|| {
        let (chip, video) = (chip.display(), video.display());
        format!("no way leads from {chip} to {video}: media-ctl -p shows the links")
    })?;
    link(&media, &way)?;
    let mut why = "the HDMI bridge has no format that its receiver takes".to_owned();
    for (code, number) in CODES {
        match set(&media, &way, code, timings) {
            Ok(format) => return node(video, number, timings, &format).map(Some),
            Err(error) => why = error.unwrap_or(why),
        }
    }
    Err(why)
}

/// Whether a way leads from the chip's subdevice to the video node; `None` where a media device that may have it did not answer.
pub(crate) fn leads(chip: &Path, video: &Path) -> Option<bool> {
    Some(find(chip, video).ok()?.is_some())
}

/// The media device that has both, and the way in it.
fn find(chip: &Path, video: &Path) -> Result<Option<(PathBuf, Vec<Link>)>, String> {
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let media = devices
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("media"))
        .map(|entry| entry.path());
    first_way(media.map(|it| (topology(&it), it)), chip, video)
}

/// # Errors
/// One did not answer, and no other has a way.
fn first_way(
    graphs: impl IntoIterator<Item = (Result<Graph, String>, PathBuf)>,
    chip: &Path,
    video: &Path,
) -> Result<Option<(PathBuf, Vec<Link>)>, String> {
    let mut none = Ok(None);
    for (graph, media) in graphs {
        match graph.map(|graph| graph.way(chip, video)) {
            Ok(Some(way)) => return Ok(Some((media, way))),
            Ok(None) => {}
            Err(error) => none = Err(error),
        }
    }
    none
}

fn topology(media: &Path) -> Result<Graph, String> {
    media_ctl(media, &["-p"]).map(|text| Graph::read(&text))
}

/// Switches on the links of the way, and off all others: `rp1-cfe` waits with the pictures until every node with a link streams, and
/// libcamera leaves some on.
fn link(media: &Path, way: &[Link]) -> Result<(), String> {
    let loose = way.iter().filter(|link| !link.immutable);
    let links: Vec<_> = loose
        .map(|Link { from, to, .. }| format!("{from} -> {to} [1]"))
        .collect();
    if links.is_empty() {
        return Ok(());
    }
    media_ctl(media, &["-r", "-l", &links.join(", ")]).map(drop)
}

/// Sets the formats along the way, and says which one arrives. Each pad gets what the one before has made of it.
///
/// # Errors
/// A driver's word; none where one prefers another format.
fn set(
    media: &Path,
    way: &[Link],
    code: &str,
    timings: &Timings,
) -> Result<String, Option<String>> {
    let Timings { width, height, .. } = timings;
    let mut format = format!("fmt:{code}/{width}x{height} field:none");
    for (at, link) in way.iter().enumerate() {
        let pads = [
            Some(&link.from),
            Some(&link.to).filter(|_| at + 1 < way.len()),
        ];
        for pad in pads.into_iter().flatten() {
            media_ctl(media, &["-V", &format!("{pad} [{format}]")])?;
            let has = topology(media)?.format(pad).unwrap_or_default();
            if size_and_code(&has) != size_and_code(&format) {
                return Err(None);
            }
            format = has;
        }
    }
    Ok(format)
}

/// What of a format a driver may not change.
fn size_and_code(format: &str) -> Option<&str> {
    format.split(' ').next()
}

/// Sets the node's format to what arrives there.
fn node(video: &Path, code: u32, timings: &Timings, format: &str) -> Result<Format, String> {
    let Timings { width, height, .. } = timings;
    let ask = |argument: &str| bridge::answer(bridge::v4l2_ctl(video, &[argument], &[]));
    let listed = ask(&format!("--list-formats={code:#x}"))?;
    let pixels = listed
        .split('\'')
        .nth(1)
        .ok_or("the receiver has no pixels for the HDMI bridge's format")?;
    let colorspace = format
        .split_once("colorspace:")
        .map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    let mut wanted = format!("--set-fmt-video=width={width},height={height},pixelformat={pixels}");
    if let Some(colorspace) = colorspace {
        wanted += &format!(",colorspace={colorspace}");
    }
    ask(&wanted)?;
    Ok(Format {
        pixels: pixels.to_owned(),
        colorspace: colorspace.map(str::to_owned),
    })
}

/// Runs it on one media device: what it prints.
fn media_ctl(media: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("media-ctl");
    command.arg("-d").arg(media).args(arguments);
    let said = program::run(&media.to_string_lossy(), command, &[], &bridge::MISSING);
    bridge::answer(said)
}

/// As `media-ctl` calls a pad: `"csi2":4`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PadName {
    entity: String,
    number: u32,
}

impl std::fmt::Display for PadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\":{}", self.entity, self.number)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    from: PadName,
    to: PadName,
    immutable: bool,
}

/// What `media-ctl -p` tells of a media device.
#[derive(Debug, Default)]
struct Graph {
    /// Names of entities, by the device that each has.
    entities: Vec<(PathBuf, String)>,
    /// As `media-ctl` reads them, too: `fmt:UYVY8_1X16/1280x720 field:none colorspace:smpte170m`.
    formats: Vec<(PadName, String)>,
    links: Vec<Link>,
}

impl Graph {
    /// Reads what versions 1.22 and later print: `pad0: Sink` and `[fmt:`, or `pad0: SINK` and `[stream:0 fmt:`.
    fn read(text: &str) -> Graph {
        let mut graph = Graph::default();
        let mut pad = PadName {
            entity: String::new(),
            number: 0,
        };
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("- entity ") {
                // `1: csi2 (8 pads, 8 links, 0 routes)`
                let named = rest
                    .split_once(": ")
                    .and_then(|(_, it)| it.rsplit_once(" ("));
                pad.entity = named.map_or("", |(name, _)| name).to_owned();
            } else if let Some(device) = line.strip_prefix("device node name ") {
                graph.entities.push((device.into(), pad.entity.clone()));
            } else if let Some((number, _)) =
                line.strip_prefix("pad").and_then(|it| it.split_once(": "))
            {
                pad.number = number.parse().unwrap_or_default();
            } else if let Some(link) = line
                .strip_prefix("-> ")
                .and_then(|link| read_link(&pad, link))
            {
                graph.links.push(link);
            } else if let Some(format) = line
                .strip_prefix('[')
                .and_then(|it| it.find("fmt:").map(|at| &it[at..]))
            {
                // A rectangle may follow in further lines.
                let mut format = format.trim_end_matches(']').to_owned();
                // A chip may tell its rate with it (`fmt:UYVY8_1X16/1280x720@1/60 field:none`), which nobody after it takes.
                if let Some(at) = format.find('@') {
                    let end = format[at..].find(' ').map_or(format.len(), |it| at + it);
                    format.replace_range(at..end, "");
                }
                graph.formats.push((pad.clone(), format));
            }
        }
        graph
    }

    fn format(&self, pad: &PadName) -> Option<String> {
        let mut formats = self.formats.iter();
        formats
            .find(|(name, _)| name == pad)
            .map(|(_, format)| format.clone())
    }

    /// The shortest way from one device to another. Inside an entity every source pad is taken to have what its sink pads get.
    fn way(&self, from: &Path, to: &Path) -> Option<Vec<Link>> {
        let name = |device: &Path| {
            let mut entities = self.entities.iter();
            entities.find(|(it, _)| it == device).map(|(_, name)| name)
        };
        let (from, to) = (name(from)?, name(to)?);
        let mut seen = HashSet::from([from]);
        let mut ways = VecDeque::from([(from, Vec::new())]);
        while let Some((at, way)) = ways.pop_front() {
            if at == to {
                return Some(way);
            }
            for link in self.links.iter().filter(|link| link.from.entity == *at) {
                if seen.insert(&link.to.entity) {
                    let further = way.iter().cloned().chain([link.clone()]).collect();
                    ways.push_back((&link.to.entity, further));
                }
            }
        }
        None
    }
}

/// What follows the arrow: `"csi2":0 [ENABLED,IMMUTABLE]`.
fn read_link(from: &PadName, text: &str) -> Option<Link> {
    let (entity, rest) = text.strip_prefix('"')?.rsplit_once("\":")?;
    let (number, flags) = rest.split_once(' ')?;
    Some(Link {
        from: from.clone(),
        to: PadName {
            entity: entity.to_owned(),
            number: number.parse().ok()?,
        },
        immutable: flags.contains("IMMUTABLE"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Raspberry Pi 5, media-ctl 1.22 of kernel 6.6: raspberrypi/libcamera#194 (its receiver, as libcamera leaves it) with the chip of
    /// FearL0rd/RPi5_hdmi_in_card#4; without the pads that carry nothing here.
    const PI_5: &str = "\
- entity 1: csi2 (8 pads, 9 links)
            type V4L2 subdev subtype Unknown flags 0
            device node name /dev/v4l-subdev0
\tpad0: Sink
\t\t[fmt:SRGGB10_1X10/640x480 field:none colorspace:raw xfer:none ycbcr:601 quantization:full-range]
\t\t<- \"tc358743 11-000f\":0 [ENABLED,IMMUTABLE]
\tpad1: Sink
\t\t[fmt:unknown/16384x1 field:none]
\tpad4: Source
\t\t[fmt:SRGGB16_1X16/640x480 field:none colorspace:raw]
\t\t-> \"rp1-cfe-csi2_ch0\":0 []
\t\t-> \"pisp-fe\":0 [ENABLED]
\tpad5: Source
\t\t[fmt:unknown/16384x1 field:none]
\t\t-> \"rp1-cfe-embedded\":0 []

- entity 10: pisp-fe (5 pads, 7 links)
             type V4L2 subdev subtype Unknown flags 0
             device node name /dev/v4l-subdev1
\tpad0: Sink
\t\t[fmt:SRGGB16_1X16/640x480 field:none colorspace:raw]
\t\t<- \"csi2\":4 [ENABLED]
\tpad2: Source
\t\t[fmt:SRGGB16_1X16/640x480 field:none colorspace:raw]
\t\t-> \"rp1-cfe-fe_image0\":0 [ENABLED]

- entity 16: tc358743 11-000f (1 pad, 1 link)
             type V4L2 subdev subtype Unknown flags 0
             device node name /dev/v4l-subdev2
\tpad0: Source
\t\t[fmt:RGB888_1X24/1920x1080 field:none colorspace:srgb]
\t\t[dv.caps:BT.656/1120 min:640x350@13000000 max:1920x1200@165000000 stds:CEA-861,DMT,CVT,GTF caps:progressive,reduced-blanking,custom]
\t\t-> \"csi2\":0 [ENABLED,IMMUTABLE]

- entity 18: rp1-cfe-csi2_ch0 (1 pad, 1 link)
             type Node subtype V4L flags 0
             device node name /dev/video0
\tpad0: Sink
\t\t<- \"csi2\":4 []

- entity 24: rp1-cfe-fe_image0 (1 pad, 1 link)
             type Node subtype V4L flags 0
             device node name /dev/video4
\tpad0: Sink
\t\t<- \"pisp-fe\":2 [ENABLED]
";

    /// A Raspberry Pi up to the 4 with a camera, kernel 6.1: raspberrypi/rpicam-apps#561.
    const PI_4: &str = "\
- entity 1: ov5647 10-0036 (1 pad, 1 link)
            type V4L2 subdev subtype Sensor flags 0
            device node name /dev/v4l-subdev0
\tpad0: Source
\t\t[fmt:SGBRG10_1X10/1296x972 field:none colorspace:raw
\t\t crop.bounds:(16,6)/2592x1944
\t\t crop:(16,6)/2592x1944]
\t\t-> \"unicam-image\":0 [ENABLED,IMMUTABLE]

- entity 3: unicam-image (1 pad, 1 link)
            type Node subtype V4L flags 1
            device node name /dev/video0
\tpad0: Sink
\t\t<- \"ov5647 10-0036\":0 [ENABLED,IMMUTABLE]
";

    /// As later versions print the same: pikvm/ustreamer#335.
    fn later(text: &str) -> String {
        text.replace("Sink", "SINK")
            .replace("Source", "SOURCE")
            .replace("[fmt:", "[stream:0 fmt:")
            .replace(" links)", " links, 0 routes)")
    }

    fn way(text: &str, from: &str, to: &str) -> Option<Vec<String>> {
        let way = Graph::read(text).way(Path::new(from), Path::new(to))?;
        let told = way.into_iter().map(
            |Link {
                 from,
                 to,
                 immutable,
             }| { format!("{from} -> {to}{}", if immutable { " fixed" } else { "" }) },
        );
        Some(told.collect())
    }

    #[test]
    fn the_way_leads_past_the_front_end() {
        for text in [PI_5.to_owned(), later(PI_5)] {
            let way = |to| way(&text, "/dev/v4l-subdev2", to);
            let arrives = "\"tc358743 11-000f\":0 -> \"csi2\":0 fixed";
            let expected = [arrives, "\"csi2\":4 -> \"rp1-cfe-csi2_ch0\":0"];
            assert_eq!(way("/dev/video0").expect("a way"), expected);
            // A link that is on is switched off with all others, and on again.
            let through = [
                arrives,
                "\"csi2\":4 -> \"pisp-fe\":0",
                "\"pisp-fe\":2 -> \"rp1-cfe-fe_image0\":0",
            ];
            assert_eq!(way("/dev/video4").expect("a way"), through);
            assert_eq!(way("/dev/video9"), None);
        }
        // Against the pictures' direction; of another receiver.
        assert_eq!(way(PI_5, "/dev/video0", "/dev/v4l-subdev2"), None);
        assert_eq!(way(PI_4, "/dev/v4l-subdev2", "/dev/video0"), None);
        let expected = ["\"ov5647 10-0036\":0 -> \"unicam-image\":0 fixed"];
        let found = way(PI_4, "/dev/v4l-subdev0", "/dev/video0");
        assert_eq!(found.expect("a way"), expected);
        assert_eq!(way("", "/dev/v4l-subdev0", "/dev/video0"), None);
    }

    #[test]
    fn a_media_device_that_does_not_answer_may_have_the_way() {
        let silent = || Err("silent".to_owned());
        let (has, other) = (|| Ok(Graph::read(PI_5)), || Ok(Graph::default()));
        let check = |graphs: [Result<Graph, String>; 2], expected| {
            let graphs = graphs.into_iter().map(|graph| (graph, PathBuf::new()));
            let (chip, video) = (Path::new("/dev/v4l-subdev2"), Path::new("/dev/video0"));
            let found = first_way(graphs, chip, video).map(|way| way.is_some());
            assert_eq!(found.ok(), expected);
        };
        check([silent(), has()], Some(true));
        check([has(), silent()], Some(true));
        check([other(), other()], Some(false));
        check([silent(), other()], None);
        check([other(), silent()], None);
    }

    #[test]
    fn formats_are_read_as_they_are_written() {
        let of = |text: &str, entity: &str, number| {
            let entity = entity.to_owned();
            Graph::read(text).format(&PadName { entity, number })
        };
        let chip = "fmt:RGB888_1X24/1920x1080 field:none colorspace:srgb";
        for text in [PI_5.to_owned(), later(PI_5)] {
            assert_eq!(of(&text, "tc358743 11-000f", 0).as_deref(), Some(chip));
            assert_eq!(of(&text, "rp1-cfe-csi2_ch0", 0), None);
        }
        let sensor = "fmt:SGBRG10_1X10/1296x972 field:none colorspace:raw";
        assert_eq!(of(PI_4, "ov5647 10-0036", 0).as_deref(), Some(sensor));
        for text in ["972@1/30 field", "972@1001/30000 field"] {
            let with_rate = PI_4.replace("972 field", text);
            let found = of(&with_rate, "ov5647 10-0036", 0);
            assert_eq!(found.as_deref(), Some(sensor));
        }
        assert_ne!(size_and_code(sensor), size_and_code(chip));
    }
}
