//! The broadcast's state machine: rows of events in, rows of states and actions out.

use std::fmt::Write;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use stream::broadcast::{Action, Broadcast, CLOSINGS, Cause, Event, STALL, Stage, State};

const SEGMENT: Duration = Duration::from_secs(2);

fn encoder() -> Event {
    Event::Failed(Cause::Encoder("x264".into()))
}

fn store() -> Event {
    Event::Failed(Cause::Store("read-only".into()))
}

fn not_stored() -> Event {
    Event::NotStored(Cause::Store("read-only".into()))
}

fn disk_full() -> Event {
    Event::Failed(Cause::DiskFull)
}

/// States with times as milliseconds since the start of the test.
fn told(broadcast: &Broadcast, epoch: Instant) -> String {
    let ms = |at: &Instant| at.duration_since(epoch).as_millis();
    let state = match broadcast.state() {
        State::Idle => "Idle".into(),
        State::Starting { since } => format!("Starting since {}", ms(since)),
        State::Live { since, published } => {
            format!("Live since {}, published {}", ms(since), ms(published))
        }
        State::Retrying { cause, until } => {
            format!(
                "Retrying until {} ({cause}), attempt {}",
                ms(until),
                broadcast.attempt()
            )
        }
        State::Stopping {
            stage: Stage::Pausing,
            ..
        } => format!("Stopping, Pausing, attempt {}", broadcast.attempt()),
        State::Stopping { stage, .. } => format!("Stopping, {stage:?}"),
    };
    match broadcast.outage() {
        Some(outage) => format!("{state}; not stored ({})", outage.cause),
        None => state,
    }
}

/// Each event with its time in milliseconds; an event that changes nothing says so. The store opens a broadcast at once
/// unless the rows say otherwise.
fn check(events: &[(u64, Event)], expected: Expect) {
    let epoch = Instant::now();
    let mut broadcast = Broadcast::new(SEGMENT);
    let mut out = String::new();
    for (i, (ms, event)) in events.iter().enumerate() {
        let before = told(&broadcast, epoch);
        let actions = broadcast.step(epoch + Duration::from_millis(*ms), event.clone());
        let rows_say = matches!(
            events.get(i + 1),
            Some((_, Event::Opened | Event::NotOpened(_)))
        );
        if actions.contains(&Action::Begin) && !rows_say {
            broadcast.step(epoch + Duration::from_millis(*ms), Event::Opened);
        }
        let after = told(&broadcast, epoch);
        let after = if before == after && actions.is_empty() {
            "ignored".into()
        } else {
            after
        };
        write!(out, "{ms} {event:?} → {after}").unwrap();
        for action in actions {
            write!(out, " · {action:?}").unwrap();
        }
        if let Some(deadline) = broadcast.deadline() {
            write!(out, " · due {}", deadline.duration_since(epoch).as_millis()).unwrap();
        }
        out.push('\n');
    }
    expected.assert_eq(&out);
}

#[test]
fn a_broadcast_goes_live_and_ends_properly() {
    check(
        &[
            (0, Event::Start),
            (10, Event::Start),
            (900, Event::Published),
            (2900, Event::Published),
            (2950, Event::Start),
            (3000, Event::Tick),
            (5000, Event::Stop),
            (5100, Event::Stop),
            (5200, Event::Published),
            (5300, Event::Start),
            (6000, Event::Drained),
            (6100, Event::Stop),
            (60_000, Event::Tick),
            (60_100, Event::Finished),
            (61_000, Event::Start),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            10 Start → ignored · due 15000
            900 Published → Live since 900, published 900 · due 15900
            2900 Published → Live since 900, published 2900 · due 17900
            2950 Start → ignored · due 17900
            3000 Tick → ignored · due 17900
            5000 Stop → Stopping, Draining · EndProgramme · due 15000
            5100 Stop → ignored · due 15000
            5200 Published → ignored · due 15000
            5300 Start → ignored · due 15000
            6000 Drained → Stopping, Closing · Finish · due 36000
            6100 Stop → ignored · due 36000
            60000 Tick → Idle · Abandon
            60100 Finished → ignored
            61000 Start → Starting since 61000 · Begin · StartProgramme · due 76000
        "#]],
    );
}

#[test]
fn idle_ignores_all_but_start_and_resume() {
    check(
        &[
            (0, Event::Stop),
            (0, Event::Published),
            (0, Event::Drained),
            (0, Event::Finished),
            (0, encoder()),
            (0, disk_full()),
            (0, Event::Cleared),
            (100_000, Event::Tick),
            (100_000, Event::Resume),
        ],
        expect![[r#"
            0 Stop → ignored
            0 Published → ignored
            0 Drained → ignored
            0 Finished → ignored
            0 Failed(Encoder("x264")) → ignored
            0 Failed(DiskFull) → ignored
            0 Cleared → ignored
            100000 Tick → ignored
            100000 Resume → Starting since 100000 · StartProgramme · due 115000
        "#]],
    );
}

#[test]
fn a_broadcast_that_was_cut_off_waits_for_the_clock_and_no_longer_than_that() {
    let minute = Duration::from_secs(60);
    // Nobody says what time it is.
    check(
        &[
            (0, Event::ResumeWithin(minute)),
            (59_999, Event::Tick),
            (60_000, Event::Tick),
            (62_000, Event::Published),
            (62_001, Event::ResumeWithin(minute)),
        ],
        expect![[r#"
            0 ResumeWithin(60s) → Retrying until 60000 (the time is not known yet), attempt 0 · due 60000
            59999 Tick → ignored · due 60000
            60000 Tick → Starting since 60000 · StartProgramme · due 75000
            62000 Published → Live since 62000, published 62000 · due 77000
            62001 ResumeWithin(60s) → ignored · due 77000
        "#]],
    );
    // The clock was set, or somebody pressed GO LIVE: it is the same broadcast that goes on.
    for event in [Event::Resume, Event::Start] {
        let mut broadcast = Broadcast::new(SEGMENT);
        let now = Instant::now();
        broadcast.step(now, Event::ResumeWithin(minute));
        assert_eq!(broadcast.waiting_since(), None, "no segment is due");
        let set = now + Duration::from_secs(7);
        assert_eq!(broadcast.step(set, event), [Action::StartProgramme]);
        assert_eq!(broadcast.waiting_since(), Some(set));
    }
    // It is over, by the clock or by hand.
    check(
        &[(0, Event::ResumeWithin(minute)), (7000, Event::Stop)],
        expect![[r#"
            0 ResumeWithin(60s) → Retrying until 60000 (the time is not known yet), attempt 0 · due 60000
            7000 Stop → Stopping, Closing · Finish · due 37000
        "#]],
    );
}

#[test]
fn a_resumed_broadcast_begins_no_new_one() {
    check(
        &[
            (0, Event::Resume),
            (1, Event::Resume),
            (2000, Event::Published),
            (2001, Event::Resume),
            (3000, Event::Stop),
        ],
        expect![[r#"
            0 Resume → Starting since 0 · StartProgramme · due 15000
            1 Resume → ignored · due 15000
            2000 Published → Live since 2000, published 2000 · due 17000
            2001 Resume → ignored · due 17000
            3000 Stop → Stopping, Draining · EndProgramme · due 13000
        "#]],
    );
}

#[test]
fn nothing_published_in_time_is_a_failure() {
    check(
        &[
            (0, Event::Start),
            (14_999, Event::Tick),
            (15_000, Event::Tick),
            (15_499, Event::Tick),
            (15_500, Event::Tick),
            (20_000, Event::Published),
            (34_999, Event::Tick),
            (35_000, Event::Tick),
            (35_500, Event::Tick),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            14999 Tick → ignored · due 15000
            15000 Tick → Retrying until 15500 (no segment in time), attempt 1 · DropProgramme · due 15500
            15499 Tick → ignored · due 15500
            15500 Tick → Starting since 15500 · StartProgramme · due 30500
            20000 Published → Live since 20000, published 20000 · due 35000
            34999 Tick → ignored · due 35000
            35000 Tick → Retrying until 35500 (no segment in time), attempt 1 · DropProgramme · due 35500
            35500 Tick → Starting since 35500 · StartProgramme · due 50500
        "#]],
    );
}

#[test]
fn the_pause_before_a_retry_doubles_up_to_its_cap_and_starts_anew_after_a_segment() {
    let mut events = vec![(0, Event::Start)];
    let mut at = 0;
    for pause in [500, 1000, 2000, 4000, 8000, 8000, 8000] {
        events.push((at, encoder()));
        at += pause;
        events.push((at - 1, Event::Tick));
        events.push((at, Event::Tick));
    }
    events.push((at, Event::Published));
    events.push((at, store()));
    check(
        &events,
        expect![[r#"
        0 Start → Starting since 0 · Begin · StartProgramme · due 15000
        0 Failed(Encoder("x264")) → Retrying until 500 (encoder: x264), attempt 1 · DropProgramme · due 500
        499 Tick → ignored · due 500
        500 Tick → Starting since 500 · StartProgramme · due 15500
        500 Failed(Encoder("x264")) → Retrying until 1500 (encoder: x264), attempt 2 · DropProgramme · due 1500
        1499 Tick → ignored · due 1500
        1500 Tick → Starting since 1500 · StartProgramme · due 16500
        1500 Failed(Encoder("x264")) → Retrying until 3500 (encoder: x264), attempt 3 · DropProgramme · due 3500
        3499 Tick → ignored · due 3500
        3500 Tick → Starting since 3500 · StartProgramme · due 18500
        3500 Failed(Encoder("x264")) → Retrying until 7500 (encoder: x264), attempt 4 · DropProgramme · due 7500
        7499 Tick → ignored · due 7500
        7500 Tick → Starting since 7500 · StartProgramme · due 22500
        7500 Failed(Encoder("x264")) → Retrying until 15500 (encoder: x264), attempt 5 · DropProgramme · due 15500
        15499 Tick → ignored · due 15500
        15500 Tick → Starting since 15500 · StartProgramme · due 30500
        15500 Failed(Encoder("x264")) → Retrying until 23500 (encoder: x264), attempt 6 · DropProgramme · due 23500
        23499 Tick → ignored · due 23500
        23500 Tick → Starting since 23500 · StartProgramme · due 38500
        23500 Failed(Encoder("x264")) → Retrying until 31500 (encoder: x264), attempt 7 · DropProgramme · due 31500
        31499 Tick → ignored · due 31500
        31500 Tick → Starting since 31500 · StartProgramme · due 46500
        31500 Published → Live since 31500, published 31500 · due 46500
        31500 Failed(Store("read-only")) → Retrying until 32000 (store: read-only), attempt 1 · DropProgramme · due 32000
    "#]],
    );
}

#[test]
fn a_retry_waits_whatever_else_is_said() {
    check(
        &[
            (0, Event::Start),
            (100, Event::Published),
            (200, encoder()),
            (210, encoder()),
            (220, store()),
            (230, Event::Published),
            (240, Event::Start),
            (250, Event::Resume),
            (260, Event::Drained),
            (270, Event::Finished),
            (280, Event::Cleared),
            (699, Event::Tick),
            (700, Event::Tick),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            100 Published → Live since 100, published 100 · due 15100
            200 Failed(Encoder("x264")) → Retrying until 700 (encoder: x264), attempt 1 · DropProgramme · due 700
            210 Failed(Encoder("x264")) → ignored · due 700
            220 Failed(Store("read-only")) → ignored · due 700
            230 Published → ignored · due 700
            240 Start → ignored · due 700
            250 Resume → ignored · due 700
            260 Drained → ignored · due 700
            270 Finished → ignored · due 700
            280 Cleared → ignored · due 700
            699 Tick → ignored · due 700
            700 Tick → Starting since 700 · StartProgramme · due 15700
        "#]],
    );
}

#[test]
fn a_store_that_takes_nothing_is_asked_again_and_the_stream_goes_on() {
    let mut events = vec![
        (0, Event::Start),
        (1000, Event::Published),
        (1000, Event::Stored),
        (3000, Event::Published),
        (3000, not_stored()),
    ];
    let mut at = 3000;
    for pause in [2000, 4000, 8000] {
        at += pause;
        events.push((at - 1, Event::Published));
        events.push((at, Event::Tick));
        events.push((at, not_stored()));
    }
    events.push((at + 1, Event::Start));
    events.push((at + 14_000, Event::Published));
    events.push((at + 16_000, Event::Tick));
    events.push((at + 17_000, Event::Published));
    events.push((at + 17_000, Event::Stored));
    check(
        &events,
        expect![[r#"
        0 Start → Starting since 0 · Begin · StartProgramme · due 15000
        1000 Published → Live since 1000, published 1000 · due 16000
        1000 Stored → ignored · due 16000
        3000 Published → Live since 1000, published 3000 · due 18000
        3000 NotStored(Store("read-only")) → Live since 1000, published 3000; not stored (store: read-only) · due 5000
        4999 Published → Live since 1000, published 4999; not stored (store: read-only) · due 5000
        5000 Tick → Live since 1000, published 4999; not stored (store: read-only) · Store · due 19999
        5000 NotStored(Store("read-only")) → ignored · due 9000
        8999 Published → Live since 1000, published 8999; not stored (store: read-only) · due 9000
        9000 Tick → Live since 1000, published 8999; not stored (store: read-only) · Store · due 23999
        9000 NotStored(Store("read-only")) → ignored · due 17000
        16999 Published → Live since 1000, published 16999; not stored (store: read-only) · due 17000
        17000 Tick → Live since 1000, published 16999; not stored (store: read-only) · Store · due 31999
        17000 NotStored(Store("read-only")) → ignored · due 31999
        17001 Start → ignored · due 31999
        31000 Published → Live since 1000, published 31000; not stored (store: read-only) · due 33000
        33000 Tick → Live since 1000, published 31000; not stored (store: read-only) · Store · due 46000
        34000 Published → Live since 1000, published 34000; not stored (store: read-only) · due 49000
        34000 Stored → Live since 1000, published 34000 · due 49000
    "#]],
    );
}

#[test]
fn room_on_the_disk_is_used_at_once() {
    check(
        &[
            (0, Event::Start),
            (1000, Event::Published),
            (1000, Event::NotStored(Cause::DiskFull)),
            (1500, Event::Cleared),
            (3000, Event::Published),
            (3000, Event::Stored),
            (3500, Event::Cleared),
            // Room on the disk says nothing of another trouble.
            (5000, Event::NotStored(Cause::StoreFull)),
            (5500, Event::Cleared),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1000 Published → Live since 1000, published 1000 · due 16000
            1000 NotStored(DiskFull) → Live since 1000, published 1000; not stored (disk full) · due 3000
            1500 Cleared → Live since 1000, published 1000; not stored (disk full) · Store · due 16000
            3000 Published → Live since 1000, published 3000; not stored (disk full) · due 18000
            3000 Stored → Live since 1000, published 3000 · due 18000
            3500 Cleared → ignored · due 18000
            5000 NotStored(StoreFull) → Live since 1000, published 3000; not stored (store full) · due 7000
            5500 Cleared → ignored · due 7000
        "#]],
    );
}

#[test]
fn an_encoder_that_fails_meanwhile_begins_no_other_broadcast() {
    check(
        &[
            (0, Event::Start),
            (1, Event::NotOpened(Cause::DiskFull)),
            (1000, Event::Published),
            (1500, encoder()),
            (2000, Event::Tick),
            (2001, Event::Tick),
            (2002, Event::Opened),
            (3000, Event::Published),
            (3000, Event::Stored),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 NotOpened(DiskFull) → Starting since 0; not stored (disk full) · due 2001
            1000 Published → Live since 1000, published 1000; not stored (disk full) · due 2001
            1500 Failed(Encoder("x264")) → Retrying until 2000 (encoder: x264), attempt 1; not stored (disk full) · DropProgramme · due 2000
            2000 Tick → Starting since 2000; not stored (disk full) · StartProgramme · due 2001
            2001 Tick → Starting since 2000; not stored (disk full) · Open · due 17000
            2002 Opened → Starting since 2000 · Store · due 17000
            3000 Published → Live since 1000, published 3000 · due 18000
            3000 Stored → ignored · due 18000
        "#]],
    );
}

#[test]
fn stop_works_from_every_state() {
    // From Starting.
    check(
        &[(0, Event::Start), (1, Event::Stop)],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 Stop → Stopping, Draining · EndProgramme · due 10001
        "#]],
    );
    // From Retrying.
    check(
        &[(0, Event::Start), (1, encoder()), (2, Event::Stop)],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 Failed(Encoder("x264")) → Retrying until 501 (encoder: x264), attempt 1 · DropProgramme · due 501
            2 Stop → Stopping, Closing · Finish · due 30002
        "#]],
    );
    // While nothing is stored.
    check(
        &[
            (0, Event::Start),
            (1000, Event::Published),
            (1000, Event::NotStored(Cause::DiskFull)),
            (1500, Event::Stop),
            (2000, Event::NotStored(Cause::DiskFull)),
            (2500, Event::Drained),
            (2600, Event::Finished),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1000 Published → Live since 1000, published 1000 · due 16000
            1000 NotStored(DiskFull) → Live since 1000, published 1000; not stored (disk full) · due 3000
            1500 Stop → Stopping, Draining; not stored (disk full) · EndProgramme · due 3000
            2000 NotStored(DiskFull) → ignored · due 6000
            2500 Drained → Stopping, Closing; not stored (disk full) · Finish · due 32500
            2600 Finished → Idle
        "#]],
    );
}

#[test]
fn a_programme_that_does_not_drain_is_dropped() {
    check(
        &[
            (0, Event::Start),
            (1000, Event::Published),
            (2000, Event::Stop),
            (11_999, Event::Tick),
            (12_000, Event::Tick),
            (12_001, Event::Drained),
            (12_002, Event::Finished),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1000 Published → Live since 1000, published 1000 · due 16000
            2000 Stop → Stopping, Draining · EndProgramme · due 12000
            11999 Tick → ignored · due 12000
            12000 Tick → Stopping, Closing · DropProgramme · Finish · due 42000
            12001 Drained → ignored · due 42000
            12002 Finished → Idle
        "#]],
    );
    check(
        &[
            (0, Event::Start),
            (2000, Event::Stop),
            (2001, encoder()),
            (2002, Event::Drained),
            (2003, Event::Finished),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            2000 Stop → Stopping, Draining · EndProgramme · due 12000
            2001 Failed(Encoder("x264")) → Stopping, Closing · DropProgramme · Finish · due 32001
            2002 Drained → ignored · due 32001
            2003 Finished → Idle
        "#]],
    );
}

#[test]
fn closing_is_tried_again_and_then_left_to_the_next_start() {
    let mut events = vec![
        (0, Event::Start),
        (1000, Event::Stop),
        (1500, Event::Drained),
    ];
    let mut at = 1500;
    for pause in [1000, 2000, 4000, 8000] {
        events.push((at, disk_full()));
        at += pause;
        events.push((at, Event::Tick));
    }
    events.push((at, disk_full()));
    events.push((at, Event::Finished));
    assert_eq!(events.len(), 3 + 2 * CLOSINGS as usize);
    check(
        &events,
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1000 Stop → Stopping, Draining · EndProgramme · due 11000
            1500 Drained → Stopping, Closing · Finish · due 31500
            1500 Failed(DiskFull) → Stopping, Pausing, attempt 1 · due 2500
            2500 Tick → Stopping, Closing · Finish · due 32500
            2500 Failed(DiskFull) → Stopping, Pausing, attempt 2 · due 4500
            4500 Tick → Stopping, Closing · Finish · due 34500
            4500 Failed(DiskFull) → Stopping, Pausing, attempt 3 · due 8500
            8500 Tick → Stopping, Closing · Finish · due 38500
            8500 Failed(DiskFull) → Stopping, Pausing, attempt 4 · due 16500
            16500 Tick → Stopping, Closing · Finish · due 46500
            16500 Failed(DiskFull) → Idle · Abandon
            16500 Finished → ignored
        "#]],
    );
    // The store hangs.
    check(
        &[
            (0, Event::Start),
            (1000, Event::Stop),
            (1500, Event::Drained),
            (31_499, Event::Tick),
            (31_500, Event::Tick),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1000 Stop → Stopping, Draining · EndProgramme · due 11000
            1500 Drained → Stopping, Closing · Finish · due 31500
            31499 Tick → ignored · due 31500
            31500 Tick → Idle · Abandon
        "#]],
    );
}

#[test]
fn a_broadcast_that_the_store_could_not_open_goes_on_air_and_is_opened_by_the_next_try() {
    let not_opened = || Event::NotOpened(Cause::DiskFull);
    check(
        &[
            (0, Event::Start),
            (1, not_opened()),
            (1000, Event::Published),
            (2001, Event::Tick),
            (2002, not_opened()),
            (3000, Event::Cleared),
            (3001, Event::Opened),
            (3002, Event::Opened),
            (4000, Event::Published),
            (4000, Event::Stored),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 NotOpened(DiskFull) → Starting since 0; not stored (disk full) · due 2001
            1000 Published → Live since 1000, published 1000; not stored (disk full) · due 2001
            2001 Tick → Live since 1000, published 1000; not stored (disk full) · Open · due 16000
            2002 NotOpened(DiskFull) → ignored · due 6002
            3000 Cleared → Live since 1000, published 1000; not stored (disk full) · Open · due 16000
            3001 Opened → Live since 1000, published 1000 · Store · due 16000
            3002 Opened → ignored · due 16000
            4000 Published → Live since 1000, published 4000 · due 19000
            4000 Stored → ignored · due 19000
        "#]],
    );
    // The encoder fails while the store still opens: it is not opened twice.
    check(
        &[
            (0, Event::Start),
            (0, Event::Opened),
            (1, encoder()),
            (501, Event::Tick),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            0 Opened → ignored · due 15000
            1 Failed(Encoder("x264")) → Retrying until 501 (encoder: x264), attempt 1 · DropProgramme · due 501
            501 Tick → Starting since 501 · StartProgramme · due 15501
        "#]],
    );
    // Stopped before it was opened, and it never is.
    check(
        &[
            (0, Event::Start),
            (1, not_opened()),
            (1000, Event::Published),
            (2000, Event::Stop),
            (2001, Event::Drained),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 NotOpened(DiskFull) → Starting since 0; not stored (disk full) · due 2001
            1000 Published → Live since 1000, published 1000; not stored (disk full) · due 2001
            2000 Stop → Stopping, Draining; not stored (disk full) · EndProgramme · due 2001
            2001 Drained → Idle · Abandon
        "#]],
    );
    check(
        &[
            (0, Event::Start),
            (1, not_opened()),
            (1000, Event::Published),
            (2001, Event::Tick),
            (2002, Event::Stop),
            (2003, Event::Drained),
            (2004, not_opened()),
        ],
        expect![[r#"
            0 Start → Starting since 0 · Begin · StartProgramme · due 15000
            1 NotOpened(DiskFull) → Starting since 0; not stored (disk full) · due 2001
            1000 Published → Live since 1000, published 1000; not stored (disk full) · due 2001
            2001 Tick → Live since 1000, published 1000; not stored (disk full) · Open · due 16000
            2002 Stop → Stopping, Draining; not stored (disk full) · EndProgramme · due 12002
            2003 Drained → Stopping, Closing; not stored (disk full) · Finish · due 32003
            2004 NotOpened(DiskFull) → Idle · Abandon
        "#]],
    );
}

#[test]
fn a_store_that_closes_after_it_was_given_up_has_closed() {
    let epoch = Instant::now();
    let mut broadcast = Broadcast::new(SEGMENT);
    for (ms, event, unclosed) in [
        (0, Event::Start, false),
        (0, Event::Opened, false),
        (1000, Event::Stop, false),
        (1500, Event::Drained, false),
        (31_500, Event::Tick, true),
        (40_000, Event::Finished, false),
    ] {
        broadcast.step(epoch + Duration::from_millis(ms), event.clone());
        assert_eq!(broadcast.unclosed(), unclosed, "{event:?}");
    }
    assert_eq!(*broadcast.state(), State::Idle);
}

#[test]
fn long_segments_get_more_time() {
    let mut broadcast = Broadcast::new(Duration::from_secs(10));
    let now = Instant::now();
    broadcast.step(now, Event::Start);
    assert_eq!(broadcast.deadline(), Some(now + Duration::from_secs(40)));
}

#[test]
fn time_on_air_counts_from_the_first_segment_through_every_retry() {
    let epoch = Instant::now();
    let at = |ms| epoch + Duration::from_millis(ms);
    let mut broadcast = Broadcast::new(SEGMENT);
    broadcast.step(at(0), Event::Start);
    assert_eq!(broadcast.on_air(), None);
    broadcast.step(at(900), Event::Published);
    broadcast.step(at(2000), encoder());
    broadcast.step(at(2500), Event::Tick);
    broadcast.step(at(4000), Event::Published);
    assert_eq!(broadcast.on_air(), Some(at(900)));
    broadcast.step(at(5000), Event::Stop);
    assert_eq!(broadcast.on_air(), Some(at(900)));
    broadcast.step(at(6000), Event::Drained);
    broadcast.step(at(7000), Event::Finished);
    assert_eq!(broadcast.on_air(), None);
    broadcast.step(at(8000), Event::Start);
    assert_eq!(broadcast.on_air(), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => Just(Event::Start),
        1 => Just(Event::Resume),
        1 => Just(Event::ResumeWithin(STALL)),
        1 => Just(Event::Stop),
        2 => Just(Event::Opened),
        1 => Just(Event::NotOpened(Cause::Store("read-only".into()))),
        3 => Just(Event::Published),
        1 => Just(Event::Stored),
        1 => Just(not_stored()),
        1 => Just(Event::NotStored(Cause::DiskFull)),
        1 => Just(Event::Drained),
        1 => Just(Event::Finished),
        1 => Just(encoder()),
        1 => Just(store()),
        1 => Just(disk_full()),
        1 => Just(Event::Cleared),
        3 => Just(Event::Tick),
    ]
}

/// What the edges would hold after the actions so far.
#[derive(Debug, Default)]
struct Edges {
    programme: bool,
    /// Begun, and perhaps in memory only.
    broadcast: bool,
    opening: bool,
    opened: bool,
}

impl Edges {
    fn perform(&mut self, event: &Event, actions: &[Action]) {
        if self.opening && matches!(event, Event::Opened | Event::NotOpened(_)) {
            self.opening = false;
            self.opened = *event == Event::Opened;
        }
        if matches!(event, Event::ResumeWithin(_)) && !self.broadcast {
            (self.broadcast, self.opened) = (true, true);
        }
        for action in actions {
            match action {
                Action::Begin => {
                    assert!(!self.broadcast, "a broadcast is open already");
                    self.broadcast = true;
                    self.opening = true;
                }
                Action::Open => {
                    assert!(self.broadcast && !self.opening && !self.opened);
                    self.opening = true;
                }
                Action::Store => assert!(self.opened, "it has not opened the broadcast"),
                Action::StartProgramme => {
                    // What is resumed was begun by an earlier life.
                    self.broadcast |= *event == Event::Resume;
                    self.opened |= *event == Event::Resume;
                    assert!(self.broadcast, "no broadcast is open");
                    assert!(!self.programme, "a programme runs already");
                    self.programme = true;
                }
                Action::EndProgramme | Action::DropProgramme => self.programme = false,
                Action::Finish => {
                    assert!(!self.programme, "the programme still runs");
                    assert!(self.opening || self.opened, "no broadcast is open");
                }
                Action::Abandon => assert!(!self.programme, "the programme still runs"),
            }
        }
    }

    fn check_invariants(&mut self, broadcast: &Broadcast, now: Instant) {
        assert_eq!(
            self.programme,
            matches!(
                broadcast.state(),
                State::Starting { .. } | State::Live { .. }
            ),
            "a programme runs exactly when segments are expected"
        );
        assert_eq!(broadcast.active(), *broadcast.state() != State::Idle);
        if !broadcast.active() {
            (self.broadcast, self.opening, self.opened) = (false, false, false);
            assert_eq!((broadcast.on_air(), broadcast.attempt()), (None, 0));
            assert_eq!(broadcast.outage(), None);
        }
        if let Some(deadline) = broadcast.deadline() {
            assert!(deadline <= now + STALL * 2);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_programmes_do_not_overlap_and_stop_leads_to_idle(
        events in prop::collection::vec((0u64..20_000, any_event()), 0..60),
        drains in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut broadcast = Broadcast::new(SEGMENT);
        let mut edges = Edges::default();
        for (pause, event) in events {
            now += Duration::from_millis(pause);
            let actions = broadcast.step(now, event.clone());
            edges.perform(&event, &actions);
            edges.check_invariants(&broadcast, now);
        }
        // The operator stops; the programme drains or hangs; the store answers.
        let actions = broadcast.step(now, Event::Stop);
        edges.perform(&Event::Stop, &actions);
        if drains {
            let actions = broadcast.step(now, Event::Drained);
            edges.perform(&Event::Drained, &actions);
        }
        while let Some(deadline) = broadcast.deadline() {
            now = deadline;
            let actions = broadcast.step(now, Event::Tick);
            edges.perform(&Event::Tick, &actions);
            edges.check_invariants(&broadcast, now);
        }
        broadcast.step(now, Event::Finished);
        prop_assert_eq!(broadcast.state(), &State::Idle);
    }

    #[test]
    fn a_tick_at_the_deadline_always_moves_it(
        events in prop::collection::vec((0u64..20_000, any_event()), 0..60),
    ) {
        let mut now = Instant::now();
        let mut broadcast = Broadcast::new(SEGMENT);
        for (pause, event) in events {
            now += Duration::from_millis(pause);
            broadcast.step(now, event);
            if let Some(deadline) = broadcast.deadline() {
                // Otherwise the loop would spin.
                now = now.max(deadline);
                broadcast.step(now, Event::Tick);
                prop_assert!(broadcast.deadline() != Some(deadline));
            }
        }
    }
}
