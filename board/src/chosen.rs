//! Which of several capture cards is taken, when none is named: the one that was, so that a loose plug does not hand the programme to
//! whatever else is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stream::input::NotFound;
use stream::status::NoCard;

use crate::cards::Pair;

/// How long another card that was there already waits for the one that is gone. Somebody who looks what is wrong has found the plug by
/// then.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long others wait for one that is there and not ready: an HDMI source takes its time to begin, once a bridge has told it what to
/// send.
const BEGINS: Duration = Duration::from_secs(5);

/// The card that was taken last.
#[derive(Debug, Default)]
pub struct Chosen {
    last: Option<Last>,
    /// Since when what would be taken is not ready.
    unready: Option<Instant>,
}

#[derive(Debug)]
struct Last {
    place: PathBuf,
    name: String,
    /// Places of those that were there beside it, or when it was first missed. What is plugged in after that is meant.
    others: BTreeSet<PathBuf>,
    missed: bool,
    /// Since when others are there without it: a hub that is away hands nothing over.
    waited_for: Option<Instant>,
}

/// Where a card is plugged in. Its number under /dev changes with each plug.
fn place(pair: &Pair) -> &Path {
    pair.usb.as_deref().unwrap_or(&pair.video)
}

impl Chosen {
    /// Takes one of what is there `now`, which is at least one, with what `ready` makes of it: a bridge that never had a signal gives way to
    /// the next card. One that had keeps its place: a cable that is changed hands nothing over.
    ///
    /// # Errors
    /// `found`'s own, `ready`'s for the first, and that what was taken before is gone and others wait for it.
    pub fn choose<T>(
        &mut self,
        found: Result<Vec<Pair>, NotFound>,
        now: Instant,
        ready: impl Fn(&Pair) -> Result<T, NotFound>,
    ) -> Result<(Pair, T), NotFound> {
        let pairs = found.as_deref().unwrap_or_default();
        if let Some(last) = &mut self.last
            && !pairs.iter().any(|pair| place(pair) == last.place)
        {
            if !std::mem::replace(&mut last.missed, true) {
                (last.others).extend(pairs.iter().map(|pair| place(pair).to_owned()));
            }
            if pairs.is_empty() {
                last.waited_for = None;
            } else if now.saturating_duration_since(*last.waited_for.get_or_insert(now)) >= PATIENCE
            {
                last.others.clear();
            }
        }
        let pairs = found?;
        let is_there = |last: &Last| pairs.iter().any(|pair| place(pair) == last.place);
        let may_be_taken = |pair: &Pair| match &self.last {
            None => true,
            Some(last) if is_there(last) => place(pair) == last.place,
            Some(last) => !last.others.contains(place(pair)),
        };
        let (mut taken, mut not_ready) = (None, None);
        for (i, pair) in (pairs.iter().enumerate()).filter(|(_, pair)| may_be_taken(pair)) {
            match ready(pair) {
                Ok(made) => {
                    taken = Some((i, made));
                    break;
                }
                Err(why) => not_ready.get_or_insert(why),
            };
            if now.saturating_duration_since(*self.unready.get_or_insert(now)) < BEGINS {
                break;
            }
        }
        let Some((taken, made)) = taken else {
            let last = self.last.as_ref().map_or("the card", |last| &last.name);
            return Err(not_ready.unwrap_or_else(|| NotFound {
                kind: NoCard::Missing,
                why: format!(
                    "{last} is gone: plug it in; {} is taken after {} s",
                    pairs[0].name,
                    PATIENCE.as_secs()
                ),
            }));
        };
        self.unready = None;
        let others = pairs.iter().enumerate().filter(|(i, _)| *i != taken);
        let others: Vec<&Pair> = others.map(|(_, other)| other).collect();
        let mut pair = pairs[taken].clone();
        if let Some(other) = others.first() {
            pair.notes.push(format!(
                "two cards, this one is used; for {} name {} in [capture] video_device",
                other.name,
                other.video.display()
            ));
        }
        self.last = Some(Last {
            place: place(&pair).to_owned(),
            name: pair.name.clone(),
            others: others.iter().map(|other| place(other).to_owned()).collect(),
            missed: false,
            waited_for: None,
        });
        Ok((pair, made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(port: &str, node: u32) -> Pair {
        Pair {
            name: format!("Stick {port}"),
            video: format!("/dev/video{node}").into(),
            audio: format!("hw:CARD={port}"),
            usb: Some(format!("/sys/{}", port.to_lowercase()).into()),
            bridge: None,
            advice: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// At these seconds these cards are there; the one that is taken, or why none is.
    #[track_caller]
    fn check(seen: &[(u64, &[&str], &str)]) {
        let began = Instant::now();
        let mut chosen = Chosen::default();
        for (node, (second, ports, expected)) in seen.iter().enumerate() {
            let pairs: Vec<Pair> = ports.iter().map(|port| card(port, node as u32)).collect();
            let none = NotFound {
                kind: NoCard::Missing,
                why: "none".into(),
            };
            let found = if pairs.is_empty() {
                Err(none)
            } else {
                Ok(pairs)
            };
            // What is called in capitals gives no signal.
            let ready = |pair: &Pair| match pair.audio.ends_with(char::is_uppercase) {
                true => Err(NotFound {
                    kind: NoCard::NoSignal,
                    why: format!("{}: no signal", pair.name),
                }),
                false => Ok(()),
            };
            let taken = match chosen.choose(found, began + Duration::from_secs(*second), ready) {
                Ok((pair, ())) => format!(
                    "{}{}",
                    pair.name,
                    if pair.notes.is_empty() { "" } else { ", noted" }
                ),
                Err(no) => no.why,
            };
            assert_eq!(taken, *expected, "at {second} s");
        }
    }

    #[test]
    fn a_loose_plug_does_not_hand_the_programme_to_another_card() {
        check(&[
            (0, &["a", "b"], "Stick a, noted"),
            (
                9,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (12, &["b", "a"], "Stick a, noted"),
            (
                20,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (
                39,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (40, &["b"], "Stick b"),
            // And for good: who comes back was replaced.
            (41, &["a", "b"], "Stick b, noted"),
        ]);
    }

    #[test]
    fn a_hub_that_is_pulled_out_gives_back_the_same_card() {
        check(&[
            (0, &["a", "b"], "Stick a, noted"),
            (1, &[], "none"),
            (
                2,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (3, &["a", "b"], "Stick a, noted"),
            (4, &[], "none"),
            (
                30,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (40, &[], "none"),
            (
                69,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (
                88,
                &["b"],
                "Stick a is gone: plug it in; Stick b is taken after 20 s",
            ),
            (89, &["b"], "Stick b"),
        ]);
    }

    #[test]
    fn a_card_that_is_plugged_in_for_the_one_that_is_gone_is_taken_at_once() {
        check(&[
            (0, &["a"], "Stick a"),
            (1, &[], "none"),
            (2, &["b"], "Stick b"),
            // One that came meanwhile is no replacement.
            (
                9,
                &["c"],
                "Stick b is gone: plug it in; Stick c is taken after 20 s",
            ),
            (10, &["c", "d"], "Stick d, noted"),
        ]);
    }

    #[test]
    fn a_bridge_without_a_signal_hides_no_other_card_and_one_that_had_a_signal_stays() {
        check(&[
            // Its source takes its time to begin.
            (0, &["A", "b"], "Stick A: no signal"),
            (4, &["A", "b"], "Stick A: no signal"),
            (5, &["A", "b"], "Stick b, noted"),
            (6, &["a", "b"], "Stick b, noted"),
        ]);
        check(&[
            (0, &["A", "b"], "Stick A: no signal"),
            (2, &["a", "b"], "Stick a, noted"),
            (60, &["A", "b"], "Stick A: no signal"),
            (90, &["A", "b"], "Stick A: no signal"),
            (91, &["a", "b"], "Stick a, noted"),
        ]);
        check(&[
            (0, &["A", "B"], "Stick A: no signal"),
            (9, &["A", "B"], "Stick A: no signal"),
        ]);
    }
}
