//! A card's capture switch and gain: some sticks wake up muted. Asked of `amixer` (Debian's `alsa-utils`), a program of ALSA's own;
//! without it the card is as it is.

use std::process::Command;

use crate::program::{self, Missing, Said};

/// Switches capture on and sets it to 0 dB, where the card has a switch and a gain. Tells what it has changed, in one line.
pub fn open(audio: &str) -> Option<String> {
    let card = card(audio)?;
    let before = amixer(card, &["scontents"])?.text();
    let controls = captures(&before);
    for control in &controls {
        // Not every control has both.
        for setting in [["capture", "0dB"].as_slice(), &["cap"]] {
            let arguments = [&["-q", "sset", control], setting].concat();
            // One that hangs has cost its two seconds.
            let done = amixer(card, &arguments)?.success;
            tracing::debug!(card, control, ?setting, done, "mixer");
        }
    }
    if controls.is_empty() {
        return None;
    }
    let after = amixer(card, &["scontents"])?.text();
    (after != before).then(|| format!("switched {} on, at 0 dB", controls.join(" and ")))
}

fn amixer(card: &str, arguments: &[&str]) -> Option<Said> {
    static MISSING: Missing = Missing::new(
        "no amixer: a card that wakes up muted stays so; install the package alsa-utils",
    );
    let mut command = Command::new("amixer");
    command.args(["-c", card]).args(arguments);
    program::run(&format!("mixer of {card}"), command, &[], &MISSING)
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
