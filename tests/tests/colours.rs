//! Colours: whatever a recording or a card says of its own, viewers see them as they were. ffmpeg makes them and judges them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Config, Podium, hls, http, judge, wait_for};

/// sRGB, and far from grey: taken for the other matrix, each part is off by 15 or more.
const COLOUR: [u8; 3] = [0xd0, 0x30, 0x20];
/// Rounding to 8 bits on each of the three ways.
const NEAR: i32 = 5;

/// A clip of one colour, in pictures as `encoding` says.
fn clip(dir: &Path, name: &str, encoding: &str) -> PathBuf {
    let file = dir.join(format!("{name}.mkv"));
    let [r, g, b] = COLOUR;
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i"])
        .arg(format!("color=0x{r:02x}{g:02x}{b:02x}:s=320x180:r=30:d=2"))
        .args(["-f", "lavfi", "-i", "sine=d=2"])
        .args(encoding.split(' '))
        .args("-c:a pcm_s16le -shortest".split(' '))
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    file
}

/// What the published stream says of its matrix, and the colour in the middle of a picture.
fn published(dir: &Path, file: &Path) -> (String, [u8; 3]) {
    std::fs::create_dir(dir).unwrap();
    let config = Config {
        extra: "[video]\nwidth = 320\nheight = 180\n".into(),
        ..Config::file(file)
    };
    let podium = Podium::start(dir, &config);
    wait_for("a picture", || {
        (podium.status()["input"]["signal"] == "ok").then_some(())
    });
    podium.go_live();
    let segments = wait_for("a segment", || {
        let playlist = hls::live(&podium, "video");
        (!playlist.segments.is_empty()).then_some(playlist.segments)
    });
    let get = |uri: &str| http::get(&format!("{}/live/{uri}", podium.viewer)).body;
    let segment = &segments[0];
    let mut bytes = get(&segment.map.as_ref().unwrap().uri);
    bytes.extend(get(&segment.uri));
    let (says, complaints) = judge::run(
        "ffprobe",
        &"-v error -select_streams v -show_entries stream=color_space -of csv=p=0 -"
            .split(' ')
            .collect::<Vec<_>>(),
        &bytes,
    );
    assert_eq!(complaints, "");
    let stream = dir.join("stream.mp4");
    std::fs::write(&stream, bytes).unwrap();
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(stream)
        // The scaler's short way to RGB is off by more than we allow.
        .args("-vf crop=2:2:160:90 -sws_flags accurate_rnd+full_chroma_int+full_chroma_inp -frames:v 1 -pix_fmt rgb24 -f rawvideo -".split(' '))
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{decoded:?}");
    let middle = decoded.stdout.first_chunk::<3>();
    (says.trim().to_owned(), *middle.unwrap())
}

#[test]
fn colours_stay_as_they_are_whatever_matrix_they_come_in() {
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        (
            "yuy2-709",
            "-vf scale=out_color_matrix=bt709 -c:v rawvideo -pix_fmt yuyv422 -colorspace bt709 -color_primaries bt709 -color_trc bt709",
            "bt709",
        ),
        // As most USB sticks give it: it stays as it is.
        (
            "yuy2-601",
            "-vf scale=out_color_matrix=bt601 -c:v rawvideo -pix_fmt yuyv422 -colorspace smpte170m -color_primaries bt709 -color_trc iec61966-2-1",
            "smpte170m",
        ),
        // Full range, which is converted.
        (
            "mjpeg",
            "-vf scale=out_color_matrix=bt601:out_range=full -c:v mjpeg -q:v 1 -pix_fmt yuvj422p",
            "bt709",
        ),
    ];
    for (name, encoding, says) in rows {
        let file = clip(dir.path(), name, encoding);
        let (said, colour) = published(&dir.path().join(name), &file);
        assert_eq!(said, says, "{name}");
        let off = (colour.iter().zip(COLOUR)).map(|(is, was)| i32::from(*is) - i32::from(was));
        let off: Vec<i32> = off.collect();
        assert!(off.iter().all(|off| off.abs() <= NEAR), "{name}: {off:?}");
    }
}
