//! A recording that is encoded already, for measurements.

use std::path::Path;
use std::process::Command;

/// A talk at 1080p30 with sound, without B-frames and with a keyframe every two seconds: what `source = "encoded"` and ffmpeg's HLS
/// take as it is. The talk is played in a loop, but no second is like another: what has been stored once costs nothing again.
/// And the sound has no holes where the loop begins anew, as a capture's has none.
pub fn talk(file: &Path, seconds: u64, kbps: u64) {
    let rate = |tag: &str, kbps: u64| [tag.to_owned(), format!("{kbps}k")];
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-stream_loop", "-1", "-i"])
        .arg(crate::root().join("tests/media/talk.mp4"))
        .args("-f lavfi -i testsrc2=size=480x270:rate=30 -f lavfi -i anoisesrc=amplitude=0.002:seed=1".split(' '))
        .args(["-t", &seconds.to_string(), "-filter_complex"])
        .arg(
            "[0:v]scale=1920:1080,fps=30,noise=alls=8:allf=t[talk]; [talk][1:v]overlay[video]; \
             [0:a]asetpts=N/SR/TB[sound]; [sound][2:a]amix=duration=first[audio]",
        )
        .args("-map [video] -map [audio] -c:v libx264 -preset ultrafast -tune zerolatency -g 60 -sc_threshold 0".split(' '))
        .args([rate("-b:v", kbps), rate("-maxrate", kbps), rate("-bufsize", kbps / 2)].concat())
        .args("-c:a aac -b:a 128k -ar 48000 -ac 2 -movflags +faststart -f mp4".split(' '))
        .arg(file)
        .status();
    assert!(done.expect("ffmpeg").success());
}
