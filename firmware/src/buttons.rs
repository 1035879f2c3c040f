//! Reads the buttons, and bounds what they may cost: a line that is broken or picks up a mobile phone has thousands of edges a second,
//! and the loop serves its buttons before its media.

use std::time::Duration;

use board::Buttons;
use futures::StreamExt as _;
use stream::buttons::{DEBOUNCE, Edge};
use tokio::time::{Instant, sleep_until};

/// So often they are read at most. What is true of a contact for less than [`DEBOUNCE`] is not told anyway.
const EVERY: Duration = DEBOUNCE.checked_div(2).expect("not by zero");

/// So many edges are taken at a time; the others wait.
const TOGETHER: usize = 64;

/// When the buttons may be read again.
#[derive(Debug)]
pub(crate) struct Pace(Instant);

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace(Instant::now())
    }

    /// The edges that have come, at once after a rest; `None` when the buttons are gone. Nothing is lost where this is not waited for.
    pub(crate) async fn edges(&mut self, buttons: &mut dyn Buttons) -> Option<Vec<Edge>> {
        sleep_until(self.0).await;
        let edges = buttons.ready_chunks(TOGETHER).next().await?;
        self.0 = Instant::now() + EVERY;
        Some(edges)
    }
}

#[cfg(test)]
mod tests {
    use stream::buttons::{Action, Button};
    use tokio::sync::mpsc;

    use super::*;

    fn edge(action: Action) -> Edge {
        Edge {
            button: Button::GoLive,
            action,
            at: Instant::now().into_std(),
        }
    }

    /// As the loop does: buttons first.
    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_noise_holds_up_no_media() {
        let mut noise = futures::stream::repeat_with(|| edge(Action::Press));
        let (media, mut units) = mpsc::channel(1);
        tokio::spawn(async move { while media.send(()).await.is_ok() {} });
        let mut pace = Pace::new();
        let (mut reads, mut taken) = (0, 0);
        for _ in 0..1000 {
            tokio::select! {
                biased;
                Some(edges) = pace.edges(&mut noise) => {
                    assert_eq!(edges.len(), TOGETHER);
                    reads += 1;
                }
                Some(()) = units.recv() => {
                    taken += 1;
                    // A unit's own work.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        assert!(taken > 5 * reads, "{taken} units, {reads} reads");
    }

    #[tokio::test(start_paused = true)]
    async fn a_press_after_a_rest_is_read_at_once_and_its_bounces_together() {
        let (finger, edges) = mpsc::unbounded_channel();
        let mut buttons = Box::pin(futures::stream::unfold(edges, async |mut edges| {
            Some((edges.recv().await?, edges))
        }));
        let mut pace = Pace::new();
        let (press, release) = (edge(Action::Press), edge(Action::Release));
        for _ in 0..2 {
            let begun = Instant::now();
            finger.send(press).unwrap();
            assert_eq!(pace.edges(&mut buttons).await, Some(vec![press]));
            assert_eq!(begun.elapsed(), Duration::ZERO);
            finger.send(release).unwrap();
            finger.send(press).unwrap();
            // Another event comes first.
            let first = tokio::time::timeout(EVERY / 2, pace.edges(&mut buttons)).await;
            assert!(first.is_err());
            let bounces = pace.edges(&mut buttons).await;
            assert_eq!(bounces, Some(vec![release, press]));
            assert_eq!(begun.elapsed(), EVERY);
            tokio::time::sleep(EVERY).await;
        }
        drop(finger);
        assert_eq!(pace.edges(&mut buttons).await, None);
    }
}
