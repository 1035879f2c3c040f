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

/// The card that was taken last.
#[derive(Debug, Default)]
pub struct Chosen {
    last: Option<Last>,
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
    /// Takes one of what is there `now`, which is at least one.
    ///
    /// # Errors
    /// `found`'s own, and that what was taken before is gone and others wait for it.
    pub fn choose(
        &mut self,
        found: Result<Vec<Pair>, NotFound>,
        now: Instant,
    ) -> Result<Pair, NotFound> {
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
        let taken = match &self.last {
            None => 0,
            Some(last) => {
                let same = pairs.iter().position(|pair| place(pair) == last.place);
                let meant = |pair| !last.others.contains(place(pair));
                let Some(taken) = same.or_else(|| pairs.iter().position(meant)) else {
                    return Err(NotFound {
                        kind: NoCard::Missing,
                        why: format!(
                            "{} is gone: plug it in; {} is taken after {} s",
                            last.name,
                            pairs[0].name,
                            PATIENCE.as_secs()
                        ),
                    });
                };
                taken
            }
        };
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
        Ok(pair)
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
            usb: Some(format!("/sys/{port}").into()),
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
            let taken = match chosen.choose(found, began + Duration::from_secs(*second)) {
                Ok(pair) => format!(
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
}
