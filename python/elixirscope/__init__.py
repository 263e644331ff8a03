"""Circuit breaker, rate limiter and connection pool over the native library elixirscope.

`Breaker`, `RateLimiter` and `Pool` translate arguments and results; every rule stands in the native library
and holds in Rust, C and on the BEAM as well. Times are seconds here and nanoseconds below.

Any thread may call anything at any time. Nothing waits but a check-out that is told to. After a fork the
child has its own breakers and limiters and must make its own pools. The package starts no thread, logs
nothing and touches no signal.
"""

from ._breaker_call import Permit
from ._breaker_options import BreakerOptions
from ._breaker_types import BreakerSnapshot, Cause, Event, Level, Mode, Outcome, Phase
from ._ffi import VERSION as __version__  # noqa: N811
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
from .limiter import Decision, LimiterSnapshot, RateLimiter
from .pool import Checkout, Pool, PoolSnapshot

__all__ = [
    "AlreadyDone",
    "BadReceipt",
    "Breaker",
    "BreakerOptions",
    "BreakerSnapshot",
    "Cause",
    "ChangeTooSoon",
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
    "HalfOpenFull",
    "HandleClosed",
    "InvalidArgument",
    "Level",
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
    "PoolSnapshot",
    "PoolTimeout",
    "QueueFull",
    "RateLimited",
    "RateLimiter",
    "Refused",
    "ServiceDegraded",
    "Shed",
    "StaleLease",
    "Status",
    "TableFull",
    "TooLate",
    "Unsupported",
    "WrongType",
    "__version__",
]
