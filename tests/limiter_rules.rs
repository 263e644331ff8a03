//! Which rules a limiter takes, and what becomes of a rate that a table cannot keep exactly.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{KeyedRule, Limiter, LimiterConfig, Rule};
use setup::SECOND;

const MAX: u64 = (1 << 62) - 1;

#[test]
fn l22_a_rule_out_of_range_names_the_argument() {
    for (tokens, period_ns, burst, argument, value) in [
        (0, 1, 1, "tokens", 0),
        (MAX + 1, 1, 1, "tokens", MAX + 1),
        (1, 0, 1, "period_ns", 0),
        (1, u64::MAX, 1, "period_ns", u64::MAX),
        (MAX, 1, MAX + 1, "burst", MAX + 1),
        (1, MAX, 2, "burst", 2),
        (2, MAX, 3, "burst", 3),
    ] {
        let error = Rule::new(tokens, period_ns, burst).unwrap_err();
        assert_eq!((error.argument, error.value), (argument, value));
        let allowed = match argument {
            "burst" => format!("0 to {MAX}, and refilled within {MAX} ns"),
            _ => format!("1 to {MAX}"),
        };
        assert_eq!(error.to_string(), format!("`{argument}` is {value}, allowed is {allowed}"));
    }
    for (tokens, period_ns, burst) in [(1, 1, MAX), (MAX, 1, MAX), (1, MAX, 1), (MAX, MAX, MAX), (1, 1, 0)] {
        assert!(Rule::new(tokens, period_ns, burst).is_ok());
    }
}

/// The best of all fractions that a table can keep, in its lowest terms, up to a thousandth below what was asked for.
#[test]
fn l22_a_rate_becomes_the_nearest_slower_one_that_fits() {
    let mut refused = 0;
    for tokens in (59..3000).chain((1..1000).map(|step| step * 1_000_003)) {
        for period_ns in [1000, 1007, 1_000_000, SECOND] {
            let (n, w) = (u128::from(tokens), u128::from(period_ns));
            // As the excess over the asked interval `w / n`, in parts of `m * n`.
            let interval = |m: u128| (w * m).div_ceil(n);
            let excess = |m: u128| interval(m) * n - w * m;
            let best = (2..=58).fold(1, |best, m| if excess(m) * best < excess(best) * m { m } else { best });
            let fits = excess(best) * 1000 <= w * best;
            let keyed = KeyedRule::new(Rule::new(tokens, period_ns, 5).unwrap());
            assert_eq!(keyed.is_ok(), fits, "{tokens} per {period_ns}");
            refused += u64::from(!fits);
            let now = keyed.map(|rule| (rule.effective().tokens(), rule.effective().period_ns()));
            if let Ok((tokens_now, period_now)) = now
                && excess(best) > 0
            {
                let now = (u128::from(tokens_now), u128::from(period_now));
                assert_eq!(now, (best, interval(best)), "{tokens} per {period_ns}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
    let effective = |tokens, period_ns| {
        KeyedRule::new(Rule::new(tokens, period_ns, 5).unwrap()).map(|rule| *rule.effective())
    };
    // One in a thousand is near enough, and one in 999 is not.
    assert_eq!(effective(1001, 1000), Ok(Rule::new(1, 1, 5).unwrap()));
    assert_eq!(effective(1000, 999).unwrap_err().argument, "tokens");
    assert_eq!(effective(417, 625), Ok(Rule::new(2, 3, 5).unwrap()));
}

#[test]
fn l22_a_table_refuses_what_it_cannot_keep_exactly_enough() {
    let keyed = |tokens, period_ns, burst| KeyedRule::new(Rule::new(tokens, period_ns, burst).unwrap());
    for exact in [(1, 1, 1), (58, 1, 1000), (1, 30 * 86_400 * SECOND, 1), (10, 60 * SECOND, 10)] {
        let effective = *keyed(exact.0, exact.1, exact.2).unwrap().effective();
        assert_eq!((effective.tokens(), effective.period_ns(), effective.burst()), exact);
    }
    let error = keyed(59, 1, 1).unwrap_err();
    assert_eq!((error.argument, error.value), ("tokens", 59));
    assert_eq!(error.allowed, "a rate that a fraction of at most 58 tokens meets within 0.1 %");
    let error = keyed(58, 59, MAX / 2).unwrap_err();
    assert_eq!((error.argument, error.value), ("burst", MAX / 2));
    // What the message allows is allowed at every rate: a bucket that 58 tokens a nanosecond fill in 330 days.
    assert_eq!(error.allowed, "a burst that is refilled within 330 days");
    assert!(keyed(58, 1, 58 * 330 * 86_400 * SECOND).is_ok());
    assert!(keyed(58, 1, 58 * 331 * 86_400 * SECOND).is_err());
    // To the tick: an instant whose first byte is 0xFF is that of a first touch.
    let room = (0xFF << 56) - 1 - 58 * setup::END;
    assert!(keyed(58, 1, room).is_ok() && keyed(58, 1, room + 1).is_err());

    let config = |max_keys| LimiterConfig { max_keys, ..LimiterConfig::default() };
    for max_keys in [0, (1 << 28) + 1, u64::MAX] {
        let error = Limiter::new(&config(max_keys)).unwrap_err();
        assert_eq!((error.argument, error.value), ("max_keys", max_keys));
        assert_eq!(error.allowed, format!("1 to {}", 1 << 28));
    }
    assert_eq!([1, 1 << 28].map(|max_keys| config(max_keys).validate()), [Ok(()); 2]);
    assert_eq!(LimiterConfig::default().max_keys, 65_536);
}
