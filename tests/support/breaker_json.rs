//! How the breaker's vectors write configurations, verdicts and changes down.

use elixirscope::breaker::{
    BreakerConfig, Event, Level, Mode, Outcome, Phase, Policy, RecordVerdict, RejectReason, Rejection,
    Snapshot, Weights, Window,
};
use serde_json::{Map, Value, json};

pub const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Success, "success"),
    (Outcome::Failure, "failure"),
    (Outcome::Ignored, "ignored"),
    (Outcome::Slow, "slow"),
    (Outcome::Cancelled, "cancelled"),
];

pub const MODES: [(Mode, &str); 4] = [
    (Mode::Auto, "auto"),
    (Mode::ForcedOpen, "forced_open"),
    (Mode::ForcedClosed, "forced_closed"),
    (Mode::MetricsOnly, "metrics_only"),
];

const PHASES: [(Phase, &str); 3] =
    [(Phase::Closed, "closed"), (Phase::Open, "open"), (Phase::HalfOpen, "half_open")];

const LEVELS: [(Level, &str); 5] = [
    (Level::None, "none"),
    (Level::Light, "light"),
    (Level::Medium, "medium"),
    (Level::Heavy, "heavy"),
    (Level::Exceeded, "exceeded"),
];

pub fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    words.iter().find(|(known, _)| known == value).expect("the table has every value").1
}

pub fn meaning<T: Copy>(words: &[(T, &str)], word: &Value) -> T {
    words.iter().find(|(_, known)| word == known).unwrap_or_else(|| panic!("unknown word {word}")).0
}

pub fn events(events: impl Iterator<Item = Event>) -> Value {
    let event = |event: Event| {
        json!({
            "sequence": event.sequence, "generation": event.generation,
            "from": word(&PHASES, &event.from), "to": word(&PHASES, &event.to),
            "from_level": word(&LEVELS, &event.from_level), "to_level": word(&LEVELS, &event.to_level),
            "mode": word(&MODES, &event.mode), "cause": event.cause.word(), "at_ns": event.at_ns,
        })
    };
    events.map(event).collect()
}

/// A time, or null for one that only somebody in charge can end.
fn wait(wait_ns: u64) -> Value {
    if wait_ns == u64::MAX { Value::Null } else { wait_ns.into() }
}

pub fn admission<T>(verdict: &Result<T, Rejection>) -> (&'static str, Value) {
    let Err(Rejection { reason, retry_after_ns }) = verdict else { return ("ok", 0.into()) };
    let word = match reason {
        RejectReason::Open => "circuit_open",
        RejectReason::HalfOpenFull => "half_open_full",
        RejectReason::ForcedOpen => "forced_open",
        RejectReason::Degraded => "service_degraded",
        #[cfg(feature = "fault-injection")]
        RejectReason::FaultInjected => unreachable!("no vector injects"),
    };
    (word, wait(*retry_after_ns))
}

pub fn recorded(verdict: RecordVerdict) -> &'static str {
    match verdict {
        RecordVerdict::Applied => "ok",
        RecordVerdict::Stale => "stale",
        RecordVerdict::Expired => "expired",
        RecordVerdict::AlreadyDone => "already_done",
        RecordVerdict::NotFound => "permit_not_found",
    }
}

pub fn state(now: &Snapshot) -> Value {
    json!({
        "phase": word(&PHASES, &now.phase), "mode": word(&MODES, &now.mode), "level": word(&LEVELS, &now.level),
        "generation": now.generation, "opens": now.opens, "live_probes": now.live_probes,
        "failures": now.failures, "window_calls": now.window_calls, "slow_calls": now.slow_calls,
        "failure_rate_bp": now.failure_rate_bp, "slow_call_rate_bp": now.slow_call_rate_bp,
        "retry_after_ns": wait(now.retry_after_ns), "last_cause": now.last_cause.map(|cause| cause.word()),
    })
}

/// The names that weights, levels and admitted shares have in a configuration.
const WEIGHTS: [&str; 5] =
    ["weight_success", "weight_failure", "weight_slow", "weight_ignored", "weight_cancelled"];
const SHARES: [&str; 7] = [
    "level_light_bp",
    "level_medium_bp",
    "level_heavy_bp",
    "admit_bp",
    "admit_light_bp",
    "admit_medium_bp",
    "admit_heavy_bp",
];

fn weights(weights: &mut Weights) -> [&mut u8; 5] {
    let Weights { success, failure, slow, ignored, cancelled } = weights;
    [success, failure, slow, ignored, cancelled]
}

fn shares(config: &mut BreakerConfig) -> impl Iterator<Item = &mut u32> {
    config.level_bp.iter_mut().chain(&mut config.admit_bp)
}

fn durations(config: &mut BreakerConfig) -> [(&'static str, &mut u64); 7] {
    [
        ("slow_call_ns", &mut config.slow_call_ns),
        ("open_for_ns", &mut config.open_for_ns),
        ("max_open_ns", &mut config.max_open_ns),
        ("seed", &mut config.seed),
        ("probe_lease_ns", &mut config.probe_lease_ns),
        ("half_open_limit_ns", &mut config.half_open_limit_ns),
        ("ramp_ns", &mut config.ramp_ns),
    ]
}

fn numbers(config: &mut BreakerConfig) -> [(&'static str, &mut u32); 8] {
    [
        ("backoff_percent", &mut config.backoff_percent),
        ("jitter_bp", &mut config.jitter_bp),
        ("half_open_permits", &mut config.half_open_permits),
        ("successes_to_close", &mut config.successes_to_close),
        ("max_ignored_probes", &mut config.max_ignored_probes),
        ("ramp_from_bp", &mut config.ramp_from_bp),
        ("probe_capacity", &mut config.probe_capacity),
        ("window_capacity", &mut config.window_capacity),
    ]
}

fn flags(config: &mut BreakerConfig) -> [(&'static str, &mut bool); 3] {
    [
        ("skip_half_open", &mut config.skip_half_open),
        ("release_expired_probes", &mut config.release_expired_probes),
        ("close_at_half_open_limit", &mut config.close_at_half_open_limit),
    ]
}

/// The policy, and every other field that is not what it is by default.
pub fn config(mut config: BreakerConfig) -> Value {
    let mut fields = match config.policy {
        Policy::ConsecutiveFailures { failure_threshold } => {
            json!({ "policy": "consecutive_failures", "failure_threshold": failure_threshold })
        }
        Policy::FailuresInPeriod { tolerated_failures, period_ns } => json!({
            "policy": "failures_in_period", "tolerated_failures": tolerated_failures, "period_ns": period_ns,
        }),
        Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp } => {
            let mut rate = match window {
                Window::Count { size } => json!({ "policy": "rate_count", "window_size": size }),
                Window::Time { period_ns, buckets } => {
                    json!({ "policy": "rate_time", "period_ns": period_ns, "buckets": buckets })
                }
            };
            rate["min_calls"] = min_calls.into();
            rate["failure_rate_bp"] = failure_rate_bp.into();
            rate["slow_call_rate_bp"] = slow_call_rate_bp.into();
            rate
        }
    };
    let mut default = BreakerConfig::default();
    let mut add = |name: &str, value: Value, default: Value| {
        if value != default {
            fields[name] = value;
        }
    };
    for ((name, value), (_, default)) in durations(&mut config).into_iter().zip(durations(&mut default)) {
        add(name, (*value).into(), (*default).into());
    }
    for ((name, value), (_, default)) in numbers(&mut config).into_iter().zip(numbers(&mut default)) {
        add(name, (*value).into(), (*default).into());
    }
    for ((name, value), (_, default)) in flags(&mut config).into_iter().zip(flags(&mut default)) {
        add(name, (*value).into(), (*default).into());
    }
    let both = weights(&mut config.weights).into_iter().zip(weights(&mut default.weights));
    for (name, (value, default)) in WEIGHTS.into_iter().zip(both) {
        add(name, (*value).into(), (*default).into());
    }
    for (name, (value, default)) in SHARES.into_iter().zip(shares(&mut config).zip(shares(&mut default))) {
        add(name, (*value).into(), (*default).into());
    }
    fields
}

pub fn parsed_config(value: &Value) -> BreakerConfig {
    let mut fields: Map<String, Value> = value.as_object().unwrap().clone();
    let mut taken = |name: &str| fields.remove(name);
    let mut number = |name: &str| taken(name).unwrap().as_u64().unwrap() as u32;
    let period = || value["period_ns"].as_u64().unwrap();
    let policy = match value["policy"].as_str().unwrap() {
        "consecutive_failures" => {
            Policy::ConsecutiveFailures { failure_threshold: number("failure_threshold") }
        }
        "failures_in_period" => {
            Policy::FailuresInPeriod { tolerated_failures: number("tolerated_failures"), period_ns: period() }
        }
        kind => Policy::Rate {
            window: match kind {
                "rate_count" => Window::Count { size: number("window_size") },
                "rate_time" => Window::Time { period_ns: period(), buckets: number("buckets") },
                other => panic!("unknown policy {other}"),
            },
            min_calls: number("min_calls"),
            failure_rate_bp: number("failure_rate_bp"),
            slow_call_rate_bp: number("slow_call_rate_bp"),
        },
    };
    (taken("policy"), taken("period_ns"));
    let mut config = BreakerConfig { policy, ..BreakerConfig::default() };
    for (name, field) in durations(&mut config) {
        *field = taken(name).map_or(*field, |value| value.as_u64().unwrap());
    }
    for (name, field) in numbers(&mut config) {
        *field = taken(name).map_or(*field, |value| value.as_u64().unwrap() as u32);
    }
    for (name, field) in flags(&mut config) {
        *field = taken(name).map_or(*field, |value| value.as_bool().unwrap());
    }
    for (name, field) in WEIGHTS.into_iter().zip(weights(&mut config.weights)) {
        *field = taken(name).map_or(*field, |value| value.as_u64().unwrap() as u8);
    }
    for (name, field) in SHARES.into_iter().zip(shares(&mut config)) {
        *field = taken(name).map_or(*field, |value| value.as_u64().unwrap() as u32);
    }
    assert!(fields.is_empty(), "unknown fields {fields:?}");
    config
}
