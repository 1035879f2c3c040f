//! Fingers on the page's buttons. A page can die with its finger on GO LIVE, and a hold ends a broadcast: so a press over
//! HTTP lasts only for as long as it is repeated.

use std::collections::HashMap;
use std::time::Duration;

use board::sim::Front;
use serde::Deserialize;
use stream::buttons::Button;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A finger that says nothing for this long has let go. Shorter than a hold, longer than three repetitions.
const GRIP: Duration = Duration::from_millis(1000);

/// Presses and releases that may wait: more than two hands can do.
const WAITING: usize = 16;

/// What a finger on a page does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Move {
    Press,
    /// The finger is still there. One that the network brings late begins no press: what follows would be another tap.
    Repeat,
    Release,
}

/// Moves the board's buttons until the sender is gone.
pub(super) fn spawn(front: Front) -> mpsc::Sender<(Button, Move)> {
    let (sender, mut moves) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut held: HashMap<Button, Instant> = HashMap::new();
        loop {
            let next = held.iter().min_by_key(|(_, until)| **until);
            let due = next.map(|(button, until)| (*button, *until));
            let gone = async {
                match due {
                    Some((button, until)) => {
                        tokio::time::sleep_until(until).await;
                        button
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                moved = moves.recv() => match moved {
                    Some((button, Move::Press)) => {
                        if held.insert(button, Instant::now() + GRIP).is_none() {
                            front.press(button);
                        }
                    }
                    Some((button, Move::Repeat)) => {
                        if let Some(until) = held.get_mut(&button) {
                            *until = Instant::now() + GRIP;
                        }
                    }
                    Some((button, Move::Release)) => {
                        if held.remove(&button).is_some() {
                            front.release(button);
                        }
                    }
                    None => return,
                },
                button = gone => {
                    held.remove(&button);
                    front.release(button);
                }
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use stream::buttons::Action;

    use super::*;

    /// What a page does, with the pauses between, and what the board's buttons then do.
    async fn check(page: &[(u64, Move)], expected: &[(u64, Action)]) {
        let board = board::sim::Sim::new();
        let began = Instant::now();
        let moves = spawn(board.front);
        let mut buttons = board.buttons;
        for (pause, action) in page {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            moves.send((Button::GoLive, *action)).await.unwrap();
        }
        tokio::time::sleep(GRIP * 2).await;
        let mut seen = Vec::new();
        while let Some(Some(edge)) = futures::FutureExt::now_or_never(buttons.next()) {
            let at = Instant::from_std(edge.at).duration_since(began).as_millis() as u64;
            seen.push((at, edge.action));
        }
        assert_eq!(seen, expected, "for {page:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_finger_stays_only_while_the_page_says_so() {
        let (press, release) = (Action::Press, Action::Release);
        use Move::{Press, Release, Repeat};
        check(&[(0, Press), (100, Release)], &[(0, press), (100, release)]).await;
        // The page died.
        check(&[(0, Press)], &[(0, press), (1000, release)]).await;
        // A long hold, repeated.
        check(
            &[(0, Press), (800, Repeat), (800, Repeat), (200, Release)],
            &[(0, press), (1800, release)],
        )
        .await;
        // The network stalls, and brings the rest of a hold all at once.
        check(
            &[
                (0, Press),
                (800, Repeat),
                (2000, Repeat),
                (0, Repeat),
                (0, Release),
            ],
            &[(0, press), (1800, release)],
        )
        .await;
        // A release that comes late is not a second one.
        check(
            &[(0, Press), (1500, Release)],
            &[(0, press), (1000, release)],
        )
        .await;
    }
}
