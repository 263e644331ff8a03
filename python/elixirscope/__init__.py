from .breaker import *
from .clock import ManualClock
from .errors import *
