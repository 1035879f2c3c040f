//! The simulated board: a picture in memory, a lamp in memory, and buttons that programs press.
//!
//! [`Sim`] holds the three parts that the firmware takes as it takes a real board's, and the [`Front`]: the box as
//! somebody sees and touches it, for the terminal, the operator's page and the tests.

pub mod terminal;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use stream::{
    buttons::{Action, Button, Edge},
    screen::Picture,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

/// Edges that may wait for the firmware: ten hurried taps on each button. What comes beyond that is dropped, as a real
/// button pressed while nobody reads it has no effect either.
const WAITING_EDGES: usize = 64;

/// How long a tap lasts: longer than the debouncing, shorter than any hold.
const TAP: Duration = Duration::from_millis(80);

/// How long a hold lasts: the gesture's own length and a little more, as people do.
const HOLD: Duration = stream::buttons::HOLD.saturating_add(Duration::from_millis(200));

/// A board made of memory.
#[derive(Debug)]
pub struct Sim {
    pub display: Display,
    pub tally: Tally,
    pub buttons: Buttons,
    pub front: Front,
}

impl Sim {
    /// A dark display, a dark lamp, and no button pressed.
    #[expect(clippy::new_without_default, reason = "a board is put up on purpose")]
    pub fn new() -> Sim {
        let (picture_tx, picture) = watch::channel(Picture::default());
        let (tally_tx, tally) = watch::channel(false);
        let (edges_tx, edges) = mpsc::channel(WAITING_EDGES);
        Sim {
            display: Display(picture_tx),
            tally: Tally(tally_tx),
            buttons: Buttons(edges),
            front: Front {
                picture,
                tally,
                edges: edges_tx,
            },
        }
    }
}

/// The picture in memory.
#[derive(Debug)]
pub struct Display(watch::Sender<Picture>);

impl crate::Display for Display {
    fn show(&mut self, picture: &Picture) -> io::Result<()> {
        self.0.send_if_modified(|shown| {
            let differs = shown != picture;
            if differs {
                shown.clone_from(picture);
            }
            differs
        });
        Ok(())
    }
}

/// The lamp in memory.
#[derive(Debug)]
pub struct Tally(watch::Sender<bool>);

impl crate::Tally for Tally {
    fn set(&mut self, lit: bool) -> io::Result<()> {
        self.0
            .send_if_modified(|shown| std::mem::replace(shown, lit) != lit);
        Ok(())
    }
}

/// The edges of the buttons that [`Front`] presses.
#[derive(Debug)]
pub struct Buttons(mpsc::Receiver<Edge>);

impl futures::Stream for Buttons {
    type Item = Edge;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Edge>> {
        self.0.poll_recv(cx)
    }
}

/// The simulated box from outside. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Front {
    picture: watch::Receiver<Picture>,
    tally: watch::Receiver<bool>,
    edges: mpsc::Sender<Edge>,
}

impl Front {
    /// The picture, and every change of it.
    pub fn picture(&self) -> watch::Receiver<Picture> {
        self.picture.clone()
    }

    /// Whether the lamp is lit, and every change of it.
    pub fn tally(&self) -> watch::Receiver<bool> {
        self.tally.clone()
    }

    /// Presses a button now.
    pub fn press(&self, button: Button) {
        self.edge(button, Action::Press);
    }

    /// Lets go of a button now.
    pub fn release(&self, button: Button) {
        self.edge(button, Action::Release);
    }

    /// Moves a button now.
    pub fn edge(&self, button: Button, action: Action) {
        // Full or closed: nobody reads the buttons, and pressing them has no effect.
        let _ = self.edges.try_send(Edge {
            button,
            action,
            at: Instant::now().into_std(),
        });
    }

    /// Taps a button, and returns when the finger is off it.
    pub async fn tap(&self, button: Button) {
        self.press(button);
        sleep(TAP).await;
        self.release(button);
    }

    /// Holds a button until it counts as held, and returns when the finger is off it.
    pub async fn hold(&self, button: Button) {
        self.press(button);
        sleep(HOLD).await;
        self.release(button);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use stream::buttons::{Gesture, Gestures};

    use super::*;
    use crate::{Display as _, Tally as _};

    /// Reads the buttons as the firmware does, until they have meant something.
    async fn gesture(buttons: &mut Buttons, gestures: &mut Gestures) -> Gesture {
        loop {
            let due = gestures.deadline();
            let told = tokio::select! {
                Some(edge) = buttons.next() => gestures.edge(edge),
                () = tokio::time::sleep_until(due.unwrap_or_else(std::time::Instant::now).into()), if due.is_some() => {
                    gestures.tick(Instant::now().into_std())
                }
            };
            if let Some(&gesture) = told.first() {
                return gesture;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pressed_outside_is_felt_inside() {
        let Sim {
            mut buttons, front, ..
        } = Sim::new();
        let mut gestures = Gestures::default();
        let ((), felt) = tokio::join!(
            front.tap(Button::Page),
            gesture(&mut buttons, &mut gestures)
        );
        assert_eq!(felt, Gesture::Tap(Button::Page));

        let (_, felt) = tokio::join!(front.hold(Button::GoLive), async {
            [
                gesture(&mut buttons, &mut gestures).await,
                gesture(&mut buttons, &mut gestures).await,
            ]
        });
        assert_eq!(
            felt,
            [
                Gesture::HoldStarted(Button::GoLive),
                Gesture::Hold(Button::GoLive)
            ]
        );
    }

    #[tokio::test]
    async fn what_is_shown_inside_is_seen_outside() {
        let Sim {
            mut display,
            mut tally,
            front,
            ..
        } = Sim::new();
        let (mut picture, mut lamp) = (front.picture(), front.tally());
        let dim = Picture {
            contrast: 1,
            ..Picture::default()
        };
        display.show(&dim).unwrap();
        tally.set(true).unwrap();
        assert_eq!(
            (&*picture.borrow_and_update(), *lamp.borrow_and_update()),
            (&dim, true)
        );
        // The same again is no news: nobody encodes a picture for nothing.
        display.show(&dim).unwrap();
        tally.set(true).unwrap();
        assert!(!picture.has_changed().unwrap() && !lamp.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_board_that_nobody_reads_or_looks_at_goes_on() {
        let Sim {
            mut display,
            mut tally,
            buttons,
            front,
        } = Sim::new();
        for _ in 0..10 * WAITING_EDGES {
            front.press(Button::Mode);
        }
        drop(buttons);
        front.press(Button::Mode);
        drop(front);
        display.show(&Picture::default()).unwrap();
        tally.set(true).unwrap();
    }
}
