"""What a breaker may be told: names, kinds and units of Python, and the library's field for each."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from numbers import Real
from typing import Any, Final, Literal, NamedTuple, SupportsIndex, TypedDict

from ._units import BP, NS_PER_S


class BreakerOptions(TypedDict, total=False):
    """The options of a `Breaker`, each with a default. Times are seconds, shares numbers from 0 to 1.

    When it opens, ``policy``:

    * ``"consecutive_failures"``, the default: at ``failure_threshold`` (5) failures in a row;
    * ``"failures_in_period"``: at the first failure beyond ``tolerated_failures`` (4) within ``period`` (60);
    * ``"rate"``: when of the last ``window_size`` results, or else of those within ``period``, a share of
      ``failure_rate`` (0.5) failed or of ``slow_call_rate`` (1) was slow; with fewer than ``min_calls`` (10)
      results never. A period is held in ``buckets`` (10): results older by up to one bucket may count.

    What counts: a call that takes longer than ``slow_call`` is slow; 0, the default, measures none.
    ``weights`` says how many failures an outcome counts as, 0 to 15: ``{"failure": 1}`` and 0 for "success",
    "slow", "ignored" and "cancelled".

    While it is open: it refuses for ``open_for`` (30), then ``backoff`` (1, or 1.2 to 100) times as long with
    each re-opening, up to ``max_open_for`` (0, no cap), spread by up to ``jitter`` (0) to either side; equal
    ``seed`` (0) spread alike. With ``skip_half_open`` it then closes without probes.

    Half-open: ``half_open_permits`` (1) probes pass and ``successes_to_close`` (1) of them close it. A probe
    that is not recorded within ``probe_lease`` (60) counts as failed, or with ``release_expired_probes``
    gives its place back. A round without a verdict ends after ``half_open_limit`` (0, never), open, or with
    ``close_at_half_open_limit`` closed. The ``max_ignored_probes``-th (0, never) ignored probe opens it
    again. Once closed, it admits a share that grows over ``ramp`` (0) seconds, from ``ramp_from`` (0.1) on.

    Degraded: ``levels`` are shares of what the policy tolerates from which on a closed breaker is degraded,
    ``{"light": 0.4, "medium": 0.6, "heavy": 0.8}``. With ``strategy`` ``"fail_fast"``, the default, they are
    only told; with ``"gradual_degradation"`` a share of the calls is admitted, ``admit``:
    ``{"none": 1, "light": 0.8, "medium": 0.5, "heavy": 0.2}``.

    ``probe_capacity`` and ``window_capacity`` are how many probes and results a later `Breaker.reconfigure`
    may ask for; 0, the default, for what the other options need. They are fixed at the creation.
    """

    policy: Literal["consecutive_failures", "failures_in_period", "rate"]
    failure_threshold: int
    tolerated_failures: int
    period: float
    window_size: int
    buckets: int
    min_calls: int
    failure_rate: float
    slow_call_rate: float
    slow_call: float
    weights: Mapping[str, int]
    open_for: float
    backoff: float
    max_open_for: float
    jitter: float
    seed: int
    skip_half_open: bool
    half_open_permits: int
    successes_to_close: int
    probe_lease: float
    release_expired_probes: bool
    half_open_limit: float
    close_at_half_open_limit: bool
    max_ignored_probes: int
    ramp: float
    ramp_from: float
    levels: Mapping[str, float]
    strategy: Literal["fail_fast", "gradual_degradation"]
    admit: Mapping[str, float]
    probe_capacity: int
    window_capacity: int


class Kind(NamedTuple):
    """What a value is, and how many of the library's units are in one of ours."""

    what: str
    type: Any
    per: int = 1

    def native(self, value: Any) -> int:
        return operator.index(value) if self.per == 1 else round(value * self.per)

    def shown(self, number: int) -> str:
        return str(number) if self.per == 1 else f"{number / self.per:.10g}"


COUNT: Final = Kind("an integer", SupportsIndex)
SWITCH: Final = Kind("True or False", bool)
SHARE: Final = Kind("a number", Real, BP)
FACTOR: Final = Kind("a number", Real, 100)
TIME: Final = Kind("a number of seconds", Real, NS_PER_S)
WORD: Final = Kind("", str)

OPTIONS: Final[dict[str, tuple[str, Kind] | dict[str, tuple[str, Kind]]]] = {
    "policy": ("policy", WORD),
    "failure_threshold": ("failure_threshold", COUNT),
    "tolerated_failures": ("tolerated_failures", COUNT),
    "period": ("period_ns", TIME),
    "window_size": ("window_size", COUNT),
    "buckets": ("buckets", COUNT),
    "min_calls": ("min_calls", COUNT),
    "failure_rate": ("failure_rate_bp", SHARE),
    "slow_call_rate": ("slow_call_rate_bp", SHARE),
    "slow_call": ("slow_call_ns", TIME),
    "weights": {
        "success": ("weight_success", COUNT),
        "failure": ("weight_failure", COUNT),
        "slow": ("weight_slow", COUNT),
        "ignored": ("weight_ignored", COUNT),
        "cancelled": ("weight_cancelled", COUNT),
    },
    "open_for": ("open_for_ns", TIME),
    "backoff": ("backoff_percent", FACTOR),
    "max_open_for": ("max_open_ns", TIME),
    "jitter": ("jitter_bp", SHARE),
    "seed": ("seed", COUNT),
    "skip_half_open": ("skip_half_open", SWITCH),
    "half_open_permits": ("half_open_permits", COUNT),
    "successes_to_close": ("successes_to_close", COUNT),
    "probe_lease": ("probe_lease_ns", TIME),
    "release_expired_probes": ("release_expired_probes", SWITCH),
    "half_open_limit": ("half_open_limit_ns", TIME),
    "close_at_half_open_limit": ("close_at_half_open_limit", SWITCH),
    "max_ignored_probes": ("max_ignored_probes", COUNT),
    "ramp": ("ramp_ns", TIME),
    "ramp_from": ("ramp_from_bp", SHARE),
    "levels": {
        "light": ("level_light_bp", SHARE),
        "medium": ("level_medium_bp", SHARE),
        "heavy": ("level_heavy_bp", SHARE),
    },
    "strategy": ("strategy", WORD),
    "admit": {
        "none": ("admit_bp", SHARE),
        "light": ("admit_light_bp", SHARE),
        "medium": ("admit_medium_bp", SHARE),
        "heavy": ("admit_heavy_bp", SHARE),
    },
    "probe_capacity": ("probe_capacity", COUNT),
    "window_capacity": ("window_capacity", COUNT),
}
FAULTS: Final = {
    "failure_bp": ("failure_rate", SHARE),
    "delay_bp": ("delay_rate", SHARE),
    "delay_ns": ("delay", TIME),
}


def _by_field() -> dict[str, tuple[str, Kind]]:
    fields: dict[str, tuple[str, Kind]] = dict(FAULTS)
    for name, entry in OPTIONS.items():
        if isinstance(entry, dict):
            fields |= {field: (f"{name}[{key!r}]", kind) for key, (field, kind) in entry.items()}
        else:
            fields[entry[0]] = (name, entry[1])
    return fields


# Field of the library -> what it is called here, and its kind.
FIELDS: Final = _by_field()

POLICIES: Final = {"consecutive_failures": 0, "failures_in_period": 1, "rate_count": 2, "rate_time": 3}
STRATEGIES: Final = {"fail_fast": 0, "gradual_degradation": 1}
# The fields that a policy or a strategy looks at, and no other one does.
OF_POLICY: Final = {
    "consecutive_failures": {"failure_threshold"},
    "failures_in_period": {"tolerated_failures", "period_ns"},
    "rate": {
        "window_size",
        "period_ns",
        "buckets",
        "min_calls",
        "failure_rate_bp",
        "slow_call_rate_bp",
    },
}
OF_STRATEGY: Final = {
    "fail_fast": set[str](),
    "gradual_degradation": {"admit_bp", "admit_light_bp", "admit_medium_bp", "admit_heavy_bp"},
}
