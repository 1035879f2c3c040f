//! Fingers on the page's buttons. A page can die with its finger on GO LIVE, and a hold ends a broadcast: so a press over
//! HTTP lasts only for as long as it is repeated.

use std::collections::HashMap;
use std::time::Duration;

use board::sim::Front;
use stream::buttons::{Action, Button};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A finger that says nothing for this long has let go. Shorter than a hold, longer than three repetitions.
const GRIP: Duration = Duration::from_millis(1000);

/// Presses and releases that may wait: more than two hands can do.
const WAITING: usize = 16;

/// Moves the board's buttons until the sender is gone.
pub(super) fn spawn(front: Front) -> mpsc::Sender<(Button, Action)> {
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
                    Some((button, Action::Press)) => {
                        if held.insert(button, Instant::now() + GRIP).is_none() {
                            front.press(button);
                        }
                    }
                    Some((button, Action::Release)) => {
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

    use super::*;

    /// What a page does, with the pauses between, and what the board's buttons then do.
    async fn check(page: &[(u64, Action)], expected: &[(u64, Action)]) {
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
        use Action::{Press, Release};
        check(&[(0, Press), (100, Release)], &[(0, Press), (100, Release)]).await;
        // The page died.
        check(&[(0, Press)], &[(0, Press), (1000, Release)]).await;
        // A long hold, repeated.
        check(
            &[(0, Press), (800, Press), (800, Press), (200, Release)],
            &[(0, Press), (1800, Release)],
        )
        .await;
        // A release that comes late is not a second one.
        check(
            &[(0, Press), (1500, Release)],
            &[(0, Press), (1000, Release)],
        )
        .await;
    }
}
