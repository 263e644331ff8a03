"""Which functions the decorators take: those that have done their work when the call has ended."""

from __future__ import annotations

import inspect

from .errors import wrong_type


def is_coroutine_function(function: object) -> bool:
    """Whether it is one. What is neither a function nor a coroutine function is refused."""
    if not callable(function):
        raise wrong_type("function", function, "a function or a coroutine function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        allowed = "a function or a coroutine function; a generator runs after the call has returned"
        raise wrong_type("function", function, allowed)
    return inspect.iscoroutinefunction(function)
