//! Capture cards, found in sysfs: which picture and which sound belong to one device.
//!
//! Picture and sound share a clock if they come from one USB device: both are paced by its crystal. A bridge on the board and its I2S
//! card are both paced by the source's. Anything else drifts apart by a picture or more an hour, so such a pair is refused unless
//! somebody insists.

use std::fs;
use std::path::{Path, PathBuf};

use stream::input::NotFound;
use stream::status::NoCard;

/// A device that gives pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// As people call it: `HDMI stick MS2109 on USB 2`.
    pub name: String,
    /// `/dev/videoN`.
    pub video: PathBuf,
    /// ALSA's name of its sound, if it has any: `hw:CARD=MS2109`.
    pub audio: Option<String>,
    /// The USB device in sysfs; absent for a bridge on the board and for the kernel's test drivers.
    pub usb: Option<PathBuf>,
    /// Of a bridge on the board, the device that takes its EDID and timings: the same as `video`, or a subdevice.
    pub bridge: Option<PathBuf>,
    /// What could be better, and how.
    pub advice: Vec<String>,
    /// What is odd about it and is dealt with: nothing is to be done.
    pub notes: Vec<String>,
}

/// What tells a bridge: the chip behind a V4L2 device that has DV timings, in capitals, if its pictures come out of the second one.
pub type Chips<'a> = &'a dyn Fn(&Path, &Path) -> Option<String>;

/// What `[capture]` wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub video: Option<PathBuf>,
    pub audio: Option<String>,
    /// Take picture and sound although they share no clock.
    pub separate_clocks: bool,
}

/// Picture and sound that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub video: PathBuf,
    pub audio: String,
    pub usb: Option<PathBuf>,
    /// See [`Card::bridge`].
    pub bridge: Option<PathBuf>,
    /// What could be better, and how.
    pub advice: Vec<String>,
    /// See [`Card::notes`].
    pub notes: Vec<String>,
}

/// Chips of the cheap sticks, which call themselves "USB Video".
const CHIPS: [(&str, &str, &str); 3] = [
    ("534d", "2109", "HDMI stick MS2109"),
    ("345f", "2109", "HDMI stick MS2109S"),
    ("345f", "2130", "HDMI stick MS2130"),
];

fn read(path: &Path, attribute: &str) -> Option<String> {
    let text = fs::read_to_string(path.join(attribute)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The entries of a class whose names begin so, with what stands behind them, in the order of their numbers.
fn class(sysfs: &Path, class: &str, prefix: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(u32, String, PathBuf)> = fs::read_dir(sysfs.join("class").join(class))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, name, fs::canonicalize(entry.path()).ok()?))
        })
        .collect();
    found.sort();
    found
        .into_iter()
        .map(|(_, name, path)| (name, path))
        .collect()
}

/// The USB device that a sysfs entry belongs to.
fn usb_parent(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|dir| dir.join("idVendor").is_file())
        .map(Path::to_owned)
}

/// A sound card that can record.
#[derive(Debug)]
struct Sound {
    /// ALSA's name of the card.
    id: String,
    number: String,
    /// Its entry in sysfs.
    path: PathBuf,
    /// It is 48 kHz stereo, and calls itself 96 kHz mono.
    called_mono: bool,
}

impl Sound {
    fn name(&self) -> String {
        format!("hw:CARD={}", self.id)
    }

    /// What shares this card's clock: the USB device, or the bridge of that name.
    fn belongs_to(&self, card: &Card) -> bool {
        match usb_parent(&self.path) {
            Some(usb) => card.usb.as_ref() == Some(&usb),
            None => card.bridge.is_some() && card.audio == Some(self.name()),
        }
    }
}

fn sounds(sysfs: &Path) -> Vec<Sound> {
    let records = |number: &str| sysfs.join(format!("class/sound/pcmC{number}D0c")).exists();
    class(sysfs, "sound", "card")
        .into_iter()
        .filter_map(|(name, path)| {
            let number = name.strip_prefix("card")?.to_owned();
            let id = read(&path, "id").unwrap_or_else(|| number.clone());
            // What the driver has read from a USB device, beside `/sys`.
            let told = sysfs.with_file_name(format!("proc/asound/card{number}/stream0"));
            let called_mono =
                fs::read_to_string(told).is_ok_and(|text| is_stereo_called_mono(&text));
            records(&number).then_some(Sound {
                id,
                number,
                path,
                called_mono,
            })
        })
        .collect()
}

/// Whether a USB card can record at 96 kHz mono and nothing else. That is how the MS2109 and its relatives call 48 kHz stereo, which
/// the capture sets right.
fn is_stereo_called_mono(told: &str) -> bool {
    let capture = told.split_once("Capture:").map_or("", |(_, it)| it);
    let all = |key: &str, value: &str| {
        let mut values = (capture.lines()).filter_map(|line| line.trim().strip_prefix(key));
        let first = values.next().map(str::trim);
        first == Some(value) && values.all(|it| it.trim() == value)
    };
    all("Channels:", "1") && all("Rates:", "96000")
}

/// All that gives pictures, in the order of the kernel's numbers. `sysfs` is `/sys` but for tests.
pub fn list(sysfs: &Path, chips: Chips<'_>) -> Vec<Card> {
    let sounds = sounds(sysfs);
    class(sysfs, "video4linux", "video")
        .into_iter()
        // A device's further nodes carry metadata.
        .filter(|(_, path)| read(path, "index").is_none_or(|index| index == "0"))
        .map(|(node, path)| {
            let video = Path::new("/dev").join(&node);
            let name = read(&path, "name").unwrap_or(node);
            match usb_parent(&path) {
                Some(usb) => on_usb(video, usb, name, &sounds),
                None => on_board(sysfs, video, name, &sounds, chips),
            }
        })
        .collect()
}

fn on_usb(video: PathBuf, usb: PathBuf, name: String, sounds: &[Sound]) -> Card {
    let own = |sound: &&Sound| usb_parent(&sound.path).as_ref() == Some(&usb);
    let name = usb_name(&usb).unwrap_or(name);
    let advice = slower_than_it_could(&usb)
        .then(|| format!("{name} could be on USB 3: use a blue socket, or another cable"));
    let sound = sounds.iter().find(own);
    let note = "sound is called 96 kHz mono, and taken as the 48 kHz stereo that it is";
    let odd = sound.is_some_and(|sound| sound.called_mono);
    Card {
        advice: advice.into_iter().collect(),
        notes: odd.then(|| note.to_owned()).into_iter().collect(),
        name,
        video,
        audio: sound.map(Sound::name),
        usb: Some(usb),
        bridge: None,
    }
}

fn on_board(
    sysfs: &Path,
    video: PathBuf,
    name: String,
    sounds: &[Sound],
    chips: Chips<'_>,
) -> Card {
    let of = |device: PathBuf| chips(&device, &video).map(|chip| (device, chip));
    // The newer drivers of the camera's connector leave the timings to the subdevice of the chip.
    let subdevices = || {
        let all = class(sysfs, "video4linux", "v4l-subdev").into_iter();
        all.map(|(node, _)| Path::new("/dev").join(node))
    };
    let Some((bridge, chip)) = of(video.clone()).or_else(|| subdevices().find_map(of)) else {
        return Card {
            name,
            video,
            audio: None,
            usb: None,
            bridge: None,
            advice: Vec::new(),
            notes: Vec::new(),
        };
    };
    // Its I2S card has the chip's name in the device tree (the overlay `tc358743-audio`), and the source's clock as the pictures have.
    let own =
        |sound: &&Sound| sound.id.eq_ignore_ascii_case(&chip) && usb_parent(&sound.path).is_none();
    Card {
        name: format!("HDMI bridge {chip}"),
        video,
        audio: sounds.iter().find(own).map(Sound::name),
        usb: None,
        bridge: Some(bridge),
        advice: Vec::new(),
        notes: Vec::new(),
    }
}

fn usb_name(usb: &Path) -> Option<String> {
    let (vendor, product) = (read(usb, "idVendor")?, read(usb, "idProduct")?);
    let known = CHIPS
        .iter()
        .find(|chip| (chip.0, chip.1) == (&vendor, &product));
    let name = match known {
        Some((_, _, name)) => (*name).to_owned(),
        None => read(usb, "product").unwrap_or(format!("USB device {vendor}:{product}")),
    };
    let speed: f64 = read(usb, "speed")?.parse().ok()?;
    let generation = match speed {
        5000.0.. => "USB 3",
        480.0.. => "USB 2",
        _ => "USB 1",
    };
    Some(format!("{name} on {generation}"))
}

/// Whether a device is on USB 2 that can do USB 3. It says so itself in its BOS descriptor; kernels before 6.12 do not pass that on, and
/// then only the chips that are known count: a USB 2.1 device may be one of either kind.
fn slower_than_it_could(usb: &Path) -> bool {
    let speed = read(usb, "speed").and_then(|speed| speed.parse::<f64>().ok());
    if speed.is_none_or(|speed| speed >= 5000.0) {
        return false;
    }
    match fs::read(usb.join("bos_descriptors")) {
        Ok(bos) => offers_superspeed(&bos),
        Err(_) => read(usb, "idVendor")
            .zip(read(usb, "idProduct"))
            .is_some_and(|(vendor, product)| USB_3_CHIPS.contains(&(&vendor, &product))),
    }
}

/// Vendor and product of those of [`CHIPS`] that can do USB 3.
const USB_3_CHIPS: [(&str, &str); 1] = [("345f", "2130")];

/// Whether a Binary device Object Store (USB 3.2, 9.6.2) has the capability SuperSpeed.
fn offers_superspeed(bos: &[u8]) -> bool {
    const CAPABILITY: u8 = 0x10;
    const SUPERSPEED: u8 = 0x03;
    let mut rest = bos;
    while let [length, kind, tail @ ..] = rest {
        if *kind == CAPABILITY && tail.first() == Some(&SUPERSPEED) {
            return true;
        }
        // One without a length would never end.
        let Some(next) = rest.get(usize::from((*length).max(1))..) else {
            return false;
        };
        rest = next;
    }
    false
}

fn missing(why: impl Into<String>) -> NotFound {
    NotFound {
        kind: NoCard::Missing,
        why: why.into(),
    }
}

fn refused(why: impl Into<String>) -> NotFound {
    NotFound {
        kind: NoCard::Refused,
        why: why.into(),
    }
}

/// All that have picture and sound; at least one.
///
/// # Errors
/// What is missing, and what to do.
pub fn pairs(cards: &[Card]) -> Result<Vec<Pair>, NotFound> {
    let pairs: Vec<Pair> = cards.iter().filter_map(paired).collect();
    if !pairs.is_empty() {
        return Ok(pairs);
    }
    let card = (cards.iter()).find(|card| card.usb.is_some() || card.bridge.is_some());
    Err(match card {
        Some(card) => refused(format!(
            "{} has no sound: name another card in [capture] audio_device and set separate_clocks = true",
            card.name
        )),
        None => missing("no capture card: plug one in"),
    })
}

/// Picture and sound as wanted, or the first that is found.
///
/// # Errors
/// What is missing or does not fit, and what to do.
pub fn choose(sysfs: &Path, wanted: &Wanted, chips: Chips<'_>) -> Result<Pair, NotFound> {
    let cards = list(sysfs, chips);
    match (&wanted.video, &wanted.audio) {
        (None, None) => Ok(pairs(&cards)?.swap_remove(0)),
        (Some(video), None) => {
            let card = find(&cards, video)?;
            paired(card).ok_or_else(|| {
                refused(format!(
                    "{} ({}) has no sound: name another card in [capture] audio_device and set separate_clocks = true",
                    video.display(),
                    card.name
                ))
            })
        }
        (None, Some(audio)) => {
            let sound = sound(sysfs, audio)?;
            let own = |card: &&Card| sound.as_ref().is_some_and(|sound| sound.belongs_to(card));
            let card = cards.iter().find(own);
            let card = card.ok_or_else(|| {
                refused(format!(
                    "{audio} belongs to no capture card: name [capture] video_device too"
                ))
            })?;
            Ok(pair(card, audio))
        }
        (Some(video), Some(audio)) => {
            let card = find(&cards, video)?;
            let sound = sound(sysfs, audio)?;
            if !wanted.separate_clocks && !sound.is_some_and(|sound| sound.belongs_to(card)) {
                return Err(refused(format!(
                    "{} and {audio} share no clock, so picture and sound would drift apart: take both from one card, or set [capture] separate_clocks = true",
                    video.display()
                )));
            }
            Ok(pair(card, audio))
        }
    }
}

fn pair(card: &Card, audio: &str) -> Pair {
    Pair {
        name: card.name.clone(),
        video: card.video.clone(),
        audio: audio.to_owned(),
        usb: card.usb.clone(),
        bridge: card.bridge.clone(),
        advice: card.advice.clone(),
        notes: card.notes.clone(),
    }
}

fn paired(card: &Card) -> Option<Pair> {
    Some(pair(card, card.audio.as_deref()?))
}

fn find<'a>(cards: &'a [Card], video: &Path) -> Result<&'a Card, NotFound> {
    // Names under /dev/v4l are links.
    let node = fs::canonicalize(video).unwrap_or_else(|_| video.to_owned());
    let card = cards.iter().find(|card| card.video == node);
    card.ok_or_else(|| {
        missing(format!(
            "{} is not there: plug the card in",
            video.display()
        ))
    })
}

/// The card behind an ALSA name like `hw:1`, `plughw:CARD=MS2109,DEV=0`; `None` where it cannot be told.
fn sound(sysfs: &Path, audio: &str) -> Result<Option<Sound>, NotFound> {
    let Some((_, arguments)) = audio.split_once(':') else {
        return Ok(None);
    };
    let first = arguments.split(',').next().unwrap_or_default();
    let card = first.strip_prefix("CARD=").unwrap_or(first);
    let known = sounds(sysfs).into_iter();
    let mut found = known.filter(|sound| sound.id == card || sound.number == card);
    let none = || {
        missing(format!(
            "{audio} is not there: plug the card in (arecord -L lists them)"
        ))
    };
    found.next().map(Some).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs as the kernel lays it out, with two sticks, a webcam without sound, a test driver and a sound card of the board.
    fn sysfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        let link = |class: &str, target: &str| {
            let name = target.rsplit('/').next().unwrap();
            let place = dir.path().join("class").join(class);
            fs::create_dir_all(&place).unwrap();
            symlink(dir.path().join(target), place.join(name)).unwrap();
        };
        for (port, vendor, product, text, speed) in [
            ("1-1", "534d", "2109", "USB Video", "480"),
            ("1-2", "046d", "0825", "Webcam C270", "480"),
            ("2-1", "1234", "abcd", "Grabber Pro", "5000"),
        ] {
            let usb = format!("devices/usb/{port}");
            file(&format!("{usb}/idVendor"), vendor);
            file(&format!("{usb}/idProduct"), product);
            file(&format!("{usb}/product"), text);
            file(&format!("{usb}/speed"), speed);
        }
        for (node, place, index) in [
            ("video0", "devices/platform/vivid.0", "0"),
            ("video2", "devices/usb/1-2/1-2:1.0", "0"),
            ("video10", "devices/usb/1-1/1-1:1.0", "0"),
            ("video11", "devices/usb/1-1/1-1:1.0", "1"),
            ("video12", "devices/usb/2-1/2-1:1.0", "0"),
        ] {
            let path = format!("{place}/video4linux/{node}");
            file(&format!("{path}/name"), "vivid-000-vid-cap");
            file(&format!("{path}/index"), index);
            link("video4linux", &path);
        }
        for (number, id, place) in [
            ("0", "Headphones", "devices/platform/soc"),
            ("1", "MS2109", "devices/usb/1-1/1-1:1.2"),
            ("2", "Pro", "devices/usb/2-1/2-1:1.2"),
        ] {
            let path = format!("{place}/sound/card{number}");
            file(&format!("{path}/id"), id);
            link("sound", &path);
            if number != "0" {
                file(&format!("{path}/pcmC{number}D0c/dev"), "116:24");
                link("sound", &format!("{path}/pcmC{number}D0c"));
            }
        }
        dir
    }

    fn no_chip(_: &Path, _: &Path) -> Option<String> {
        None
    }

    #[test]
    fn a_bridge_on_the_board_has_the_sound_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |class: &str, node: &str, attribute: &str, text: &str| {
            let path = dir.path().join("class").join(class).join(node);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(attribute), format!("{text}\n")).unwrap();
        };
        // A Raspberry Pi: decoder, the receivers of a camera and of a bridge, and what is before them.
        entry("video4linux", "video0", "name", "rp1-cfe-csi2_ch0");
        entry("video4linux", "video8", "name", "rp1-cfe-csi2_ch0");
        entry("video4linux", "video19", "name", "rpi-hevc-dec");
        entry("video4linux", "v4l-subdev0", "name", "csi2");
        entry("video4linux", "v4l-subdev1", "name", "tc358743 10-000f");
        entry("sound", "card0", "id", "vc4hdmi");
        entry("sound", "pcmC0D0c", "dev", "116:24");
        entry("sound", "card1", "id", "tc358743");
        entry("sound", "pcmC1D0c", "dev", "116:56");
        let behind = |device: &'static str| {
            move |asked: &Path, video: &Path| {
                let leads = asked == Path::new(device) && video == Path::new("/dev/video8");
                leads.then(|| "TC358743".to_owned())
            }
        };
        let check = |device: &'static str, audio: Option<&str>, expected: &str| {
            let wanted = Wanted {
                audio: audio.map(String::from),
                ..Wanted::default()
            };
            let found = match choose(dir.path(), &wanted, &behind(device)) {
                Ok(Pair {
                    name,
                    video,
                    audio,
                    bridge: Some(bridge),
                    ..
                }) => format!("{name} {} {audio} {}", video.display(), bridge.display()),
                Ok(pair) => format!("{pair:?}"),
                Err(no) => no.why,
            };
            assert_eq!(found, expected);
        };
        // The node has the timings, as with older kernels; the chip has.
        check(
            "/dev/video8",
            None,
            "HDMI bridge TC358743 /dev/video8 hw:CARD=tc358743 /dev/video8",
        );
        check(
            "/dev/v4l-subdev1",
            None,
            "HDMI bridge TC358743 /dev/video8 hw:CARD=tc358743 /dev/v4l-subdev1",
        );
        check(
            "/dev/video8",
            Some("plughw:1"),
            "HDMI bridge TC358743 /dev/video8 plughw:1 /dev/video8",
        );
        check(
            "/dev/video8",
            Some("hw:0"),
            "hw:0 belongs to no capture card: name [capture] video_device too",
        );
        check("none", None, "no capture card: plug one in");
        fs::remove_dir_all(dir.path().join("class/sound/pcmC1D0c")).unwrap();
        check(
            "/dev/video8",
            None,
            "HDMI bridge TC358743 has no sound: name another card in [capture] audio_device and set separate_clocks = true",
        );
    }

    #[test]
    fn cards_are_named_as_people_do_and_have_their_own_sound() {
        let sysfs = sysfs();
        let found: Vec<_> = list(sysfs.path(), &no_chip)
            .into_iter()
            .map(|card| {
                format!(
                    "{} {} {}",
                    card.video.display(),
                    card.audio.unwrap_or("-".into()),
                    card.name
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "/dev/video0 - vivid-000-vid-cap",
                "/dev/video2 - Webcam C270 on USB 2",
                "/dev/video10 hw:CARD=MS2109 HDMI stick MS2109 on USB 2",
                "/dev/video12 hw:CARD=Pro Grabber Pro on USB 3",
            ]
        );
    }

    #[test]
    fn stereo_that_is_called_mono_is_noted() {
        let dir = sysfs();
        // As `sys` and `proc` lie beside each other.
        let root = tempfile::tempdir().unwrap();
        symlink(dir.path(), root.path().join("sys")).unwrap();
        let told = |number: u32, channels: &str, rates: &str| {
            let card = root.path().join(format!("proc/asound/card{number}"));
            fs::create_dir_all(&card).unwrap();
            let text = format!(
                "USB Video at usb-1, high speed : USB Audio\n\nPlayback:\n  Interface 1\n    Channels: 2\n    Rates: 48000\n\n\
                 Capture:\n  Status: Stop\n  Interface 3\n    Altset 1\n    Format: S16_LE\n    Channels: {channels}\n    \
                 Endpoint: 0x82 (2 IN) (ASYNC)\n    Rates: {rates}\n"
            );
            fs::write(card.join("stream0"), text).unwrap();
        };
        let check = |channels, rates, expected: &[&str]| {
            told(1, channels, rates);
            told(2, "2", "48000");
            let cards = list(&root.path().join("sys"), &no_chip);
            let notes: Vec<_> = cards.into_iter().flat_map(|card| card.notes).collect();
            assert_eq!(notes, expected, "{channels} {rates}");
        };
        check(
            "1",
            "96000",
            &["sound is called 96 kHz mono, and taken as the 48 kHz stereo that it is"],
        );
        check("2", "96000", &[]);
        check("1", "48000", &[]);
        check("1", "48000, 96000", &[]);
    }

    #[test]
    fn a_card_in_the_wrong_socket_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let check = |id: &str, speed: &str, bos: Option<&[u8]>, expected| {
            let usb = dir.path();
            let (vendor, product) = id.split_once(':').unwrap();
            fs::write(usb.join("idVendor"), vendor).unwrap();
            fs::write(usb.join("idProduct"), product).unwrap();
            fs::write(usb.join("speed"), speed).unwrap();
            match bos {
                Some(bos) => fs::write(usb.join("bos_descriptors"), bos).unwrap(),
                None => drop(fs::remove_file(usb.join("bos_descriptors"))),
            }
            assert_eq!(slower_than_it_could(usb), expected, "{id} {speed}");
        };
        let usb_2: &[u8] = &[5, 0x0f, 12, 0, 1, 7, 0x10, 2, 6, 0, 0, 0];
        let usb_3: &[u8] = &[
            5, 0x0f, 22, 0, 2, 7, 0x10, 2, 6, 0, 0, 0, 10, 0x10, 3, 0, 14, 0, 1, 10, 255, 7,
        ];
        check("345f:2109", "480", None, false);
        check("345f:2130", "480", None, true);
        check("1234:2130", "480", None, false);
        check("345f:2130", "5000", None, false);
        check("1234:abcd", "480", Some(usb_2), false);
        check("1234:abcd", "480", Some(usb_3), true);
        check("1234:abcd", "10000", Some(usb_3), false);
        // Lies about lengths.
        check("1234:abcd", "480", Some(&[0; 40]), false);
        check("1234:abcd", "480", Some(&[255, 0x0f]), false);
    }

    #[test]
    fn a_pair_shares_a_clock_or_is_refused_with_a_reason() {
        let dir = sysfs();
        let check = |video: Option<&str>, audio: Option<&str>, separate_clocks, expected: &str| {
            let wanted = Wanted {
                video: video.map(PathBuf::from),
                audio: audio.map(String::from),
                separate_clocks,
            };
            let found = match choose(dir.path(), &wanted, &no_chip) {
                Ok(pair) => format!("{} {}", pair.video.display(), pair.audio),
                Err(no) => {
                    let missing = no.why.contains("is not there");
                    assert_eq!(no.kind == NoCard::Missing, missing, "{no}");
                    no.why
                }
            };
            assert_eq!(found, expected, "{wanted:?}");
        };
        check(None, None, false, "/dev/video10 hw:CARD=MS2109");
        check(
            Some("/dev/video12"),
            None,
            false,
            "/dev/video12 hw:CARD=Pro",
        );
        check(None, Some("hw:2"), false, "/dev/video12 hw:2");
        check(
            Some("/dev/video10"),
            Some("plughw:CARD=MS2109,DEV=0"),
            false,
            "/dev/video10 plughw:CARD=MS2109,DEV=0",
        );
        check(
            Some("/dev/video10"),
            Some("hw:CARD=Pro"),
            false,
            "/dev/video10 and hw:CARD=Pro share no clock, so picture and sound would drift apart: take both from one card, or set [capture] separate_clocks = true",
        );
        check(
            Some("/dev/video10"),
            Some("hw:CARD=Pro"),
            true,
            "/dev/video10 hw:CARD=Pro",
        );
        check(
            Some("/dev/video10"),
            Some("hw:CARD=Mic"),
            true,
            "hw:CARD=Mic is not there: plug the card in (arecord -L lists them)",
        );
        check(
            Some("/dev/video10"),
            Some("default"),
            true,
            "/dev/video10 default",
        );
        check(
            Some("/dev/video10"),
            Some("default"),
            false,
            "/dev/video10 and default share no clock, so picture and sound would drift apart: take both from one card, or set [capture] separate_clocks = true",
        );
        check(
            Some("/dev/video2"),
            None,
            false,
            "/dev/video2 (Webcam C270 on USB 2) has no sound: name another card in [capture] audio_device and set separate_clocks = true",
        );
        check(
            Some("/dev/video9"),
            None,
            false,
            "/dev/video9 is not there: plug the card in",
        );
        check(
            None,
            Some("hw:7"),
            false,
            "hw:7 is not there: plug the card in (arecord -L lists them)",
        );
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            choose(empty.path(), &Wanted::default(), &no_chip),
            Err(missing("no capture card: plug one in"))
        );
    }
}
