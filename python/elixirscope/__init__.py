"""Circuit breaker, rate limiter and connection pool over the native library elixirscope.

`Breaker`, `RateLimiter` and `Pool` translate arguments and results; every rule stands in the native library
and holds in Rust, C and on the BEAM as well. Times are seconds here and nanoseconds below.

Any thread may call anything at any time. Nothing waits but a check-out, a drain and an `acquire`. After
a fork the child has its own breakers and limiters and must make its own pools. The package starts no thread,
logs nothing and touches no signal.
"""

from ._breaker_call import Permit
from ._breaker_options import BreakerOptions
from ._breaker_types import BreakerSnapshot, Cause, Event, Level, Mode, Outcome, Phase
from ._ffi import VERSION as __version__  # noqa: N811
from ._limiter_groups import GroupDecision
from ._limiter_headers import rate_limit_headers
from ._limiter_limits import Charge, Limit
from ._limiter_receipts import Reservation
from ._limiter_types import Decision, FullPolicy, LimiterSnapshot, Rule, Strategy
from ._pool_acquire import Acquisition
from ._pool_checkout import Checkout
from ._pool_options import PoolOptions
from ._pool_types import Leak, PoolSnapshot
from .breaker import Breaker
from .clock import Clock, ManualClock
from .errors import (
    AlreadyDone,
    BadReceipt,
    ChangeTooSoon,
    CircuitOpen,
    CreateFailed,
    Error,
    FaultInjected,
    ForcedOpen,
    Forfeited,
    Forked,
    HalfOpenFull,
    HandleClosed,
    InvalidArgument,
    Never,
    OutOfMemory,
    Panic,
    PermitNotFound,
    PoolClosed,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    QueueFull,
    RateLimited,
    Refused,
    ServiceDegraded,
    Shed,
    StaleLease,
    Status,
    TableFull,
    TooLate,
    Unsupported,
    WrongType,
)
from .limiter import RateLimiter
from .pool import Pool

__all__ = [
    "Acquisition",
    "AlreadyDone",
    "BadReceipt",
    "Breaker",
    "BreakerOptions",
    "BreakerSnapshot",
    "Cause",
    "ChangeTooSoon",
    "Charge",
    "Checkout",
    "CircuitOpen",
    "Clock",
    "CreateFailed",
    "Decision",
    "Error",
    "Event",
    "FaultInjected",
    "ForcedOpen",
    "Forfeited",
    "Forked",
    "FullPolicy",
    "GroupDecision",
    "HalfOpenFull",
    "HandleClosed",
    "InvalidArgument",
    "Leak",
    "Level",
    "Limit",
    "LimiterSnapshot",
    "ManualClock",
    "Mode",
    "Never",
    "OutOfMemory",
    "Outcome",
    "Panic",
    "Permit",
    "PermitNotFound",
    "Phase",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolExhausted",
    "PoolOptions",
    "PoolSnapshot",
    "PoolTimeout",
    "QueueFull",
    "RateLimited",
    "RateLimiter",
    "Refused",
    "Reservation",
    "Rule",
    "ServiceDegraded",
    "Shed",
    "StaleLease",
    "Status",
    "Strategy",
    "TableFull",
    "TooLate",
    "Unsupported",
    "WrongType",
    "__version__",
    "rate_limit_headers",
]
