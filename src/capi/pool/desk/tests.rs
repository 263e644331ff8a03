//! The desk on its own, with threads that sit down.

use super::*;
use crate::sync::monotonic_ns;

const CHORE: Chore = Chore { slot: 3, epoch: 9 };

#[test]
fn a_wake_before_the_sleep_is_remembered() {
    let desk = Desk::new();
    let seat = desk.sit();
    desk.wake(seat.token(), WakeOutcome::TimedOut);
    assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(WakeOutcome::TimedOut)));
}

#[test]
fn a_late_wake_is_not_for_the_next_sitter() {
    let desk = Desk::new();
    let token = desk.sit().token();
    let seat = desk.sit();
    assert_eq!(token as u32, seat.token() as u32, "the place is taken again");
    desk.wake(token, WakeOutcome::Closed);
    assert!(matches!(seat.next(u64::MAX, 0, monotonic_ns), Turn::DeadlinePassed));
}

#[test]
fn a_chore_waits_for_somebody_and_a_closed_desk_takes_none() {
    let desk = Desk::new();
    assert_eq!(desk.leave_chore(CHORE), Ok(()));
    assert!(matches!(desk.sit().next(u64::MAX, u64::MAX, monotonic_ns), Turn::Do(CHORE)));
    assert_eq!(desk.take_chore(), None);
    assert_eq!(desk.leave_chore(CHORE), Ok(()));
    assert_eq!(desk.close(), [CHORE]);
    assert_eq!(desk.leave_chore(CHORE), Err(CHORE));
}

#[test]
fn the_earliest_alarm_rings_once() {
    let desk = Desk::new();
    desk.set_alarm(5);
    desk.set_alarm(u64::MAX - 1);
    let seat = desk.sit();
    assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Alarm));
    desk.wake(seat.token(), WakeOutcome::Closed);
    assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(_)));
}

#[test]
fn what_there_is_to_do_comes_before_the_end_of_a_slice() {
    let desk = Desk::new();
    let seat = desk.sit();
    assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::SliceOver));
    assert_eq!(desk.leave_chore(CHORE), Ok(()));
    desk.set_alarm(1);
    assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::Do(CHORE)));
    assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::Alarm));
    assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::SliceOver));
}

/// The first sleeper wakes at the alarm for which it was nudged, or at the end of its slice before it. What it does
/// then may take long, so the second must not sleep past the alarm.
#[test]
fn who_gets_up_without_leaving_passes_the_alarm_on() {
    const SOON_NS: u64 = 20_000_000;
    let desk = Desk::new();
    std::thread::scope(|scope| {
        let (first, second) = (desk.sit(), desk.sit());
        let slice_end_ns = monotonic_ns() + SOON_NS;
        let places = [&first, &second].map(|seat| seat.token() as u32 as usize);
        let is_asleep = |place: usize| desk.lock().places[place].asleep;
        let first = scope.spawn(move || (first.next(slice_end_ns, u64::MAX, monotonic_ns), first));
        // On a busy machine it may be up again before anybody looks.
        while !is_asleep(places[0]) && !first.is_finished() {
            std::thread::yield_now();
        }
        let second = scope.spawn(move || second.next(u64::MAX, u64::MAX, monotonic_ns));
        while !is_asleep(places[1]) {
            std::thread::yield_now();
        }
        desk.set_alarm(slice_end_ns + SOON_NS);
        let (turn, _first) = first.join().expect("the first sleeper's slice ends");
        assert!(matches!(turn, Turn::SliceOver));
        assert!(matches!(second.join().expect("the second sleeper got the alarm"), Turn::Alarm));
    });
}

fn sleepers(desk: &Desk, wanted: usize) {
    while desk.lock().places.iter().filter(|place| place.asleep).count() < wanted {
        std::thread::yield_now();
    }
}

/// The end of a wait may be all that a drained pool was waiting for, and a thread that ends its own wakes nobody.
#[test]
fn p24_who_listens_hears_of_every_wait_that_ends() {
    let desk = Desk::new();
    let (woken, leaving) = (desk.sit(), desk.sit());
    let listener = desk.sit_and_listen();
    let hears = || matches!(listener.next(0, u64::MAX, monotonic_ns), Turn::Stirred);
    assert!(!hears());
    desk.wake(woken.token(), WakeOutcome::TimedOut);
    assert!(hears() && !hears());
    drop(leaving);
    assert!(hears() && !hears());
}

/// Of two sleepers one is nudged for a chore; when that one leaves with a wake instead, the other gets it.
#[test]
fn who_leaves_passes_the_nudge_on() {
    let desk = Desk::new();
    std::thread::scope(|scope| {
        let first = desk.sit();
        let token = first.token();
        let second = desk.sit();
        let first = scope
            .spawn(move || assert!(matches!(first.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(_))));
        sleepers(&desk, 1);
        let second = scope
            .spawn(move || assert!(matches!(second.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Do(CHORE))));
        sleepers(&desk, 2);
        {
            // Both at once, as two threads could: the first sleeper finds its wake and must not take the nudge
            // with it.
            let mut state = desk.lock();
            state.chores.push_back(CHORE);
            state.nudge();
            state.places[token as u32 as usize].note = Some(WakeOutcome::Closed);
        }
        first.join().expect("the first sleeper was woken");
        second.join().expect("the second sleeper got the chore");
    });
}
