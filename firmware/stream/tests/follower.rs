//! Whatever is told, in whatever order: what is served never goes back, and the newest is fetched in the end.

use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use stream::follower::{
    ASK_EVERY, Action, DHT_EVERY, Event, Follower, GONE, IDLE, Refusal, SILENCE, Source, Told,
};

fn told(sequence: u64, root: &str) -> Told {
    Told {
        root: root.to_owned(),
        sequence,
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
    }
}

fn wall() -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000))
}

/// A follower and the time, which only the test moves.
struct It {
    follower: Follower,
    now: Instant,
}

impl It {
    fn new(served: Option<Told>) -> It {
        let now = Instant::now();
        let follower = Follower::new(now, true, served);
        It { follower, now }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let actions = self.follower.step(self.now, wall(), event);
        self.follower.check_invariants();
        actions
    }

    fn hears(&mut self, told: &Told) -> Vec<Action> {
        self.step(Event::Told(Source::PubSub, told.clone()))
    }

    fn after(&mut self, pause: Duration) -> Vec<Action> {
        self.now += pause;
        self.step(Event::Tick)
    }
}

#[test]
fn a_record_is_refused_for_what_it_says() {
    let mut it = It::new(Some(told(7, "a")));
    let mut expired = told(9, "c");
    expired.expires = SystemTime::UNIX_EPOCH;
    for (record, refusal) in [
        (
            told(6, "z"),
            Refusal::Older {
                sequence: 6,
                newest: 7,
            },
        ),
        (told(7, "b"), Refusal::Contradicts { sequence: 7 }),
        (expired.clone(), Refusal::Expired { sequence: 9 }),
    ] {
        assert_eq!(it.hears(&record), []);
        assert_eq!(it.follower.refusals().1, Some(refusal));
    }
    assert_eq!(it.hears(&told(7, "a")), []);
    assert_eq!(it.follower.refusals().0, 3);
    // Without a clock nobody can tell.
    let event = Event::Told(Source::PubSub, expired.clone());
    let actions = it.follower.step(it.now, None, event);
    assert_eq!(actions, [Action::Fetch(expired)]);
}

#[test]
fn the_newest_is_fetched_after_what_is_under_way() {
    let mut it = It::new(None);
    assert_eq!(it.hears(&told(1, "a")), [Action::Fetch(told(1, "a"))]);
    it.now += Duration::from_secs(9);
    assert_eq!(it.hears(&told(2, "b")), []);
    it.now += Duration::from_secs(1);
    assert_eq!(it.hears(&told(3, "c")), []);
    assert_eq!(it.step(Event::Fetched), [Action::Fetch(told(3, "c"))]);
    assert_eq!(it.follower.served(), Some(&told(1, "a")));
    // Since "b" was told.
    it.now += Duration::from_secs(1);
    assert_eq!(it.follower.behind(it.now), Duration::from_secs(2));
    assert_eq!(it.step(Event::Fetched), []);
    assert_eq!(it.follower.behind(it.now), Duration::ZERO);
    // Signed again.
    assert_eq!(it.hears(&told(4, "c")), [Action::Keep(told(4, "c"))]);
}

#[test]
fn one_that_refuses_all_that_is_new_falls_behind() {
    let mut it = It::new(Some(told(1, "a")));
    for sequence in 2..5 {
        it.hears(&told(sequence, "b"));
        it.now += Duration::from_secs(2);
        it.step(Event::Refused);
    }
    assert_eq!(it.follower.behind(it.now), Duration::from_secs(6));
}

#[test]
fn what_is_lost_is_fetched_again_and_nothing_older() {
    let now = Instant::now();
    let follower = Follower::lost(now, true, told(7, "a"));
    let mut it = It { follower, now };
    it.follower.check_invariants();
    assert_eq!(it.hears(&told(6, "z")), []);
    assert_eq!(it.follower.newest(), Some(&told(7, "a")));
    let again = Action::Fetch(told(7, "a"));
    assert!(it.after(Duration::ZERO).contains(&again));
    it.step(Event::Failed);
    assert_eq!(it.step(Event::Connected(true)), [again]);
    it.step(Event::Fetched);
    assert_eq!(it.follower.behind(it.now), Duration::ZERO);
    assert_eq!(it.follower.served(), Some(&told(7, "a")));
}

#[test]
fn what_does_not_come_is_tried_again_ever_more_patiently() {
    let mut it = It::new(None);
    it.hears(&told(1, "a"));
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(it.step(Event::Failed), []);
        let almost = Duration::from_secs(pause) - Duration::from_millis(1);
        let fetches = |actions: Vec<Action>| actions.contains(&Action::Fetch(told(1, "a")));
        assert!(!fetches(it.after(almost)), "{pause}");
        assert!(fetches(it.after(Duration::from_millis(1))), "{pause}");
    }
    it.step(Event::Failed);
    // Somebody is there again, and somebody says that they have it.
    let again = [Action::Fetch(told(1, "a"))];
    assert_eq!(it.step(Event::Connected(true)), again);
    it.step(Event::Failed);
    assert_eq!(it.hears(&told(1, "a")), again);
    it.hears(&told(2, "b"));
    assert_eq!(it.step(Event::Failed), [Action::Fetch(told(2, "b"))]);
    // What is refused does not come up again.
    assert_eq!(it.step(Event::Refused), []);
    assert!(!it.after(Duration::from_secs(1)).contains(&again[0]));
    assert_eq!(it.hears(&told(3, "c")), [Action::Fetch(told(3, "c"))]);
}

#[test]
fn others_are_asked_only_when_nobody_tells() {
    let mut it = It::new(None);
    let asks = |actions: &[Action], what: Action| actions.contains(&what);
    assert!(asks(&it.after(Duration::ZERO), Action::AskHttp));
    assert!(!asks(&it.after(Duration::from_millis(1)), Action::AskHttp));
    assert!(asks(&it.after(ASK_EVERY), Action::AskHttp));
    it.hears(&told(1, "a"));
    assert!(!asks(&it.after(ASK_EVERY), Action::AskHttp));
    it.hears(&told(1, "a"));
    assert!(
        asks(&it.after(SILENCE - ASK_EVERY), Action::AskHttp),
        "told again is nothing new"
    );
    assert!(!asks(&it.after(DHT_EVERY), Action::AskDht), "by nobody");
    it.step(Event::Connected(true));
    assert!(asks(&it.after(Duration::ZERO), Action::AskDht));
    assert!(!asks(&it.after(SILENCE), Action::AskDht));
}

/// Somebody answers over HTTP every two seconds: the box, which is idle, a mirror that no longer hears it, or one that is behind.
#[test]
fn who_tells_nothing_new_does_not_keep_the_dht_from_being_asked() {
    for (sequence, walks) in [(7, 2), (6, 10)] {
        let mut it = It::new(None);
        it.hears(&told(7, "a"));
        it.step(Event::Connected(true));
        let mut asked = 0;
        for _ in 0..2 * IDLE.as_secs() / ASK_EVERY.as_secs() {
            it.step(Event::Told(Source::Http, told(sequence, "a")));
            asked += usize::from(it.after(ASK_EVERY).contains(&Action::AskDht));
        }
        assert_eq!(asked, walks, "{sequence}");
    }
}

#[test]
fn a_box_is_gone_when_nothing_comes() {
    let mut it = It::new(Some(told(1, "a")));
    assert_eq!(it.follower.gone(it.now, true), None);
    it.hears(&told(2, "b"));
    it.step(Event::Connected(true));
    it.after(GONE);
    // Off air nothing has to come, as long as somebody is there.
    assert_eq!(it.follower.gone(it.now, false), None);
    assert_eq!(it.follower.gone(it.now, true), Some(GONE));
    // Being told the same again is no life of a broadcast.
    it.hears(&told(2, "b"));
    assert_eq!(it.follower.gone(it.now, true), Some(GONE));
    it.hears(&told(3, "c"));
    assert_eq!(it.follower.gone(it.now, true), None);
    it.step(Event::Connected(false));
    it.after(GONE);
    assert_eq!(it.follower.gone(it.now, false), Some(GONE));
    let mut answers = |sequence, root| {
        it.step(Event::Told(Source::Http, told(sequence, root)));
        it.follower.gone(it.now, false)
    };
    assert_eq!(answers(2, "b"), Some(GONE), "a mirror that is behind");
    assert_eq!(answers(3, "c"), None);
}

#[derive(Debug, Clone)]
enum Happens {
    Told(u64, bool, bool),
    Fetched,
    Failed,
    Refused,
    Connected(bool),
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0u64..12, any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Happens::Told(a, b, c)),
        Just(Happens::Fetched),
        Just(Happens::Failed),
        Just(Happens::Refused),
        any::<bool>().prop_map(Happens::Connected),
        (0u64..40).prop_map(Happens::Wait),
    ]
}

proptest! {
    #[test]
    fn what_is_served_never_goes_back(story in prop::collection::vec(happens(), 0..60)) {
        let mut it = It::new(None);
        let (mut served, mut highest, mut refused, mut under_way) = (None, None, None, false);
        let mut known: Vec<(u64, Instant)> = Vec::new();
        for event in story {
            let event = match event {
                Happens::Told(sequence, other, expired) => {
                    let mut told = told(sequence, if other { "other" } else { "one" });
                    if expired {
                        told.expires = SystemTime::UNIX_EPOCH;
                    } else if Some(sequence) > highest {
                        highest = Some(sequence);
                        known.push((sequence, it.now));
                    }
                    Event::Told(Source::Http, told)
                }
                Happens::Fetched if under_way => Event::Fetched,
                Happens::Failed if under_way => Event::Failed,
                Happens::Refused if under_way => {
                    refused = it.follower.under_way().map(|told| told.sequence);
                    Event::Refused
                }
                Happens::Connected(connected) => Event::Connected(connected),
                Happens::Wait(seconds) => {
                    it.now += Duration::from_secs(seconds);
                    Event::Tick
                }
                _ => continue,
            };
            let ends = matches!(event, Event::Fetched | Event::Failed | Event::Refused);
            let before = under_way && !ends;
            let actions = it.step(event);
            let fetches = actions.iter().filter(|it| matches!(it, Action::Fetch(_))).count();
            prop_assert!(fetches + usize::from(before) <= 1, "one fetch at a time");
            under_way = before || fetches == 1;
            prop_assert_eq!(under_way, it.follower.under_way().is_some());
            let now = it.follower.served().map(|told| told.sequence);
            prop_assert!(now >= served, "{now:?} after {served:?}");
            served = now;
            prop_assert_eq!(it.follower.newest().map(|told| told.sequence), highest);
            let lacking = known.iter().find(|(sequence, _)| Some(*sequence) > served);
            let behind = lacking.map_or(Duration::ZERO, |(_, at)| it.now.duration_since(*at));
            prop_assert_eq!(it.follower.behind(it.now), behind);
        }
        // Where all comes that is asked for, the newest is there in the end, unless it was refused.
        for _ in 0..2 {
            while it.follower.under_way().is_some() {
                it.step(Event::Fetched);
            }
            it.after(Duration::from_secs(60));
        }
        let served = it.follower.served().map(|told| told.sequence);
        prop_assert!(served == highest || refused == highest, "{served:?} of {highest:?}");
    }
}
