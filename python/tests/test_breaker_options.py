"""What a `Breaker` may be told; a mistake is named in Python's words and units, with what is allowed."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from guarded import fail, phase_of
from test_bad_input import BAD_COUNTS, BAD_TIMES, refused

from elixirscope import Breaker, BreakerOptions, InvalidArgument, ManualClock, Phase, WrongType
from elixirscope._breaker_native import native
from elixirscope._breaker_options import FAULTS, FIELDS, OPTIONS

RATE: BreakerOptions = {"policy": "rate", "window_size": 100}
TIMED: BreakerOptions = {"policy": "rate", "period": 60}
PERIOD: BreakerOptions = {"policy": "failures_in_period"}
GRADUAL: BreakerOptions = {"strategy": "gradual_degradation"}

COUNTS: list[tuple[str, BreakerOptions]] = [
    ("failure_threshold", {}),
    ("tolerated_failures", PERIOD),
    ("window_size", {"policy": "rate"}),
    ("buckets", TIMED),
    ("min_calls", RATE),
    ("min_calls", TIMED),
    ("half_open_permits", {}),
    ("successes_to_close", {}),
    ("max_ignored_probes", {}),
    ("probe_capacity", {}),
    ("window_capacity", {}),
]
TIMES: list[tuple[str, BreakerOptions]] = [
    ("open_for", {}),
    ("probe_lease", {}),
    ("slow_call", {}),
    ("max_open_for", {}),
    ("half_open_limit", {}),
    ("ramp", {}),
    ("period", PERIOD),
    ("period", {"policy": "rate"}),
]
SHARES: list[tuple[str, BreakerOptions]] = [
    ("failure_rate", RATE),
    ("slow_call_rate", TIMED),
    ("jitter", {}),
    ("ramp_from", {}),
    ("backoff", {}),
]
SWITCHES = ["skip_half_open", "release_expired_probes", "close_at_half_open_limit"]
GROUPS = [(group, key) for group in ("weights", "levels", "admit") for key in OPTIONS[group]]


def made(options: Any, **more: object) -> Breaker:
    return Breaker(**{**options, **more})


@pytest.mark.parametrize("value", BAD_COUNTS)
@pytest.mark.parametrize(("argument", "others"), COUNTS)
def test_counts(argument: str, others: BreakerOptions, value: Any) -> None:
    refused(argument, value, lambda: made(others, **{argument: value}))


@pytest.mark.parametrize("value", [*BAD_TIMES, math.inf])
@pytest.mark.parametrize(("argument", "others"), TIMES)
def test_times(argument: str, others: BreakerOptions, value: Any) -> None:
    refused(argument, value, lambda: made(others, **{argument: value}))


@pytest.mark.parametrize("value", [-0.1, 100.5, 1e300, math.nan, math.inf, "1", None, 1j, [1]])
@pytest.mark.parametrize(("argument", "others"), SHARES)
def test_shares_and_factors(argument: str, others: BreakerOptions, value: Any) -> None:
    refused(argument, value, lambda: made(others, **{argument: value}))


@pytest.mark.parametrize("value", [-1, 2**32, math.nan, "1", None, 16.5])
@pytest.mark.parametrize(("group", "key"), GROUPS)
def test_entries_of_groups(group: str, key: str, value: Any) -> None:
    others: dict[str, object] = {group: {key: value}}
    refused(f"{group}[{key!r}]", value, lambda: made(GRADUAL, **others))


@pytest.mark.parametrize("value", [1, 0, "yes", None])
@pytest.mark.parametrize("argument", SWITCHES)
def test_switches(argument: str, value: Any) -> None:
    refused(argument, value, lambda: made({argument: value}))


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, "1", None])
def test_seeds(value: Any) -> None:
    assert "18446744073709551615" in str(refused("seed", value, lambda: Breaker(seed=value)))
    Breaker(seed=2**64 - 1)


@pytest.mark.parametrize("value", ["rates", "rate_count", 0, None, ["rate"]])
def test_choices(value: Any) -> None:
    refused("policy", value, lambda: Breaker(policy=value))
    refused("strategy", value, lambda: Breaker(strategy=value))


@pytest.mark.parametrize("value", [None, 5, ["slow"], {"slowly": 1}, {1: 1}])
@pytest.mark.parametrize("group", ["weights", "levels", "admit"])
def test_groups(group: str, value: Any) -> None:
    message = str(refused(group, value, lambda: made({group: value})))
    assert all(repr(key) in message for key in OPTIONS[group])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failure_threshold": "5"}, "`failure_threshold` is '5', allowed is an integer, 1 to 536870911"),
        ({"failure_threshold": 0}, "`failure_threshold` is 0, allowed is an integer, 1 to 536870911"),
        (
            {"successes_to_close": 2},
            "`successes_to_close` is 2, allowed is an integer, 1 to `half_open_permits` (1)",
        ),
        ({"half_open_permits": 65}, "`half_open_permits` is 65, allowed is an integer, 1 to 64"),
        (
            {"policy": "rate", "window_size": 5},
            "`min_calls` is 10 (its default), allowed is an integer, 1 to `window_size` (5)",
        ),
        ({**RATE, "failure_rate": 2}, "`failure_rate` is 2, allowed is a number, 0.0001 to 1"),
        ({"open_for": -1}, "`open_for` is -1, allowed is a number of seconds, 0 to 4611686018"),
        (
            {"max_open_for": 5},
            "`max_open_for` is 5, allowed is a number of seconds, 0, or `open_for` (30) to 4611686018",
        ),
        ({"backoff": 1.1}, "`backoff` is 1.1, allowed is a number, 1, or 1.2 to 100"),
        (
            {**TIMED, "period": 0.005},
            "`period` is 0.005, allowed is a number of seconds, at least 0.001 for each bucket",
        ),
        (
            {"levels": {"light": 0.7}},
            "`levels['medium']` is 0.6 (its default), allowed is a number, `levels['light']` (0.7) to 1",
        ),
        ({"weights": {"failure": 0}}, "`weights['failure']` is 0, allowed is an integer, 1 to 15"),
    ],
)
def test_a_message_is_in_the_words_and_units_of_the_caller(options: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as problem:
        Breaker(**options)
    assert str(problem.value) == message


def test_a_message_about_room_names_the_creation() -> None:
    breaker = Breaker()
    with pytest.raises(InvalidArgument, match="results up to the `window_capacity` of its creation"):
        breaker.reconfigure(policy="rate", window_size=10)
    with pytest.raises(
        InvalidArgument, match="is 9, allowed is an integer, 1 to the `probe_capacity` of its"
    ):
        breaker.reinstall(half_open_permits=9)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("reset_timeout", "open_for"),
        ("faliure_threshold", "failure_threshold"),
        ("fail_max", "failure_threshold"),
        ("failures_on", "failure_on"),
        ("exclude", "ignore"),
    ],
)
def test_an_unknown_option_is_told_what_may_be_meant(given: str, meant: str) -> None:
    options: dict[str, Any] = {given: 1}
    with pytest.raises(WrongType, match=f"`{given}` is no option of a breaker; `{meant}` is"):
        Breaker(**options)
    with pytest.raises(WrongType, match=r"`colour` is no option of a breaker$"):
        Breaker().reconfigure(colour=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("tolerated_failures", {"tolerated_failures": 3}),
        ("failure_threshold", {**RATE, "failure_threshold": 3}),
        ("period", {"period": 3}),
        ("min_calls", {**PERIOD, "min_calls": 3}),
        ("policy", {"policy": "rate"}),
        ("policy", {**RATE, "period": 60}),
        ("buckets", {**RATE, "buckets": 10}),
        ("admit['light']", {"admit": {"light": 0.5}}),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(argument: str, options: Any) -> None:
    refused(
        argument, options.get(argument, "rate") if "[" not in argument else 0.5, lambda: Breaker(**options)
    )


@pytest.mark.parametrize("value", [Exception, (int,), ("ValueError",), None, [ValueError]])
@pytest.mark.parametrize("argument", ["failure_on", "ignore"])
def test_exception_types(argument: str, value: Any) -> None:
    refused(argument, value, lambda: made({argument: value}))


def test_no_option_is_forgotten() -> None:
    assert set(BreakerOptions.__annotations__) == set(OPTIONS)
    assert all(f"``{option}``" in (BreakerOptions.__doc__ or "") for option in OPTIONS)
    tried = {name for name, _ in (*COUNTS, *TIMES, *SHARES)} | {*SWITCHES, "seed", "policy", "strategy"}
    tried |= {f"{group}[{key!r}]" for group, key in GROUPS}
    assert tried == {name for field, (name, _) in FIELDS.items() if field not in FAULTS}


def test_the_documented_defaults_are_those_of_the_library() -> None:
    defaults = native({})
    documented = re.findall(r"``(\w+)`` \((\d[\d.]*)", (BreakerOptions.__doc__ or "").replace("\n    ", " "))
    assert len(documented) > 15
    fields = {name: (field, kind) for field, (name, kind) in FIELDS.items() if field not in FAULTS}
    for option, number in documented:
        field, kind = fields[option]
        assert kind.shown(getattr(defaults, field)) == number, option


@pytest.mark.parametrize(
    ("options", "failures"),
    [
        ({"failure_threshold": 3}, 3),
        ({**PERIOD, "tolerated_failures": 3, "period": 60.0}, 4),
        ({**RATE, "min_calls": 6, "failure_rate": 0.5}, 6),
        ({**TIMED, "min_calls": 7}, 7),
        ({"failure_threshold": 6, "weights": {"failure": 2}}, 3),
    ],
)
def test_policies(options: Any, failures: int) -> None:
    breaker = Breaker(clock=ManualClock(), **options)
    for _ in range(failures):
        assert phase_of(breaker) is Phase.CLOSED
        fail(breaker)
    assert phase_of(breaker) is Phase.OPEN


def test_the_open_time_grows_up_to_its_cap() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10, backoff=2.0, max_open_for=35, clock=clock)
    times = []
    for _ in range(4):
        fail(breaker)
        times.append(breaker.snapshot().retry_after)
        clock.advance(times[-1])
    assert times == [10.0, 20.0, 35.0, 35.0]
