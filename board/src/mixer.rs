//! A card's capture switch and gain: some sticks wake up muted. Asked of `amixer` (Debian's `alsa-utils`), a program of ALSA's own;
//! without it the card is as it is.

use std::process::{Command, Stdio};

/// Switches capture on and sets it to 0 dB, where the card has a switch and a gain.
pub fn open(audio: &str) {
    let Some(card) = card(audio) else { return };
    let Ok(output) = amixer(card).arg("scontents").output() else {
        tracing::debug!("no amixer: the card's gain stays as it is");
        return;
    };
    for control in captures(&String::from_utf8_lossy(&output.stdout)) {
        for setting in [["capture", "0dB"].as_slice(), &["cap"]] {
            let done = amixer(card)
                .args(["-q", "sset", &control])
                .args(setting)
                .stdout(Stdio::null())
                .status();
            // Not every control has both.
            tracing::debug!(card, control, ?setting, ?done, "mixer");
        }
    }
}

fn amixer(card: &str) -> Command {
    let mut command = Command::new("amixer");
    command
        .args(["-c", card])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The card of an ALSA name like `hw:CARD=MS2109,DEV=0` or `plughw:1`.
fn card(audio: &str) -> Option<&str> {
    let (_, arguments) = audio.split_once(':')?;
    let first = arguments.split(',').next()?;
    Some(first.strip_prefix("CARD=").unwrap_or(first)).filter(|card| !card.is_empty())
}

/// The controls that capture, by what `amixer scontents` prints.
fn captures(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Simple mixer control ") {
            current = name;
        } else if let Some(abilities) = line.trim().strip_prefix("Capabilities:")
            && abilities.split_whitespace().any(|it| it.starts_with('c'))
        {
            found.push(current.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_captures_is_found() {
        // Of a USB stick, and a playback control of a headset; alsa-utils 1.2.8.
        let text = "Simple mixer control 'PCM',0\n  Capabilities: pvolume pswitch\n  Playback channels: Mono\n\
            Simple mixer control 'Digital In',0\n  Capabilities: cvolume cswitch cswitch-joined\n  Capture channels: Front Left - Front Right\n\
            Simple mixer control 'Auto Gain Control',0\n  Capabilities: pswitch pswitch-joined\n";
        assert_eq!(captures(text), ["'Digital In',0"]);
        assert_eq!(captures("amixer: Mixer attach hw:9 error"), [""; 0]);
    }

    #[test]
    fn the_card_is_read_out_of_its_name() {
        for (audio, expected) in [
            ("hw:CARD=MS2109", Some("MS2109")),
            ("plughw:CARD=MS2109,DEV=0", Some("MS2109")),
            ("hw:1,0", Some("1")),
            ("default", None),
            ("hw:", None),
        ] {
            assert_eq!(card(audio), expected);
        }
    }
}
