"""What stands for one native object can be neither copied nor pickled.

A copy would hold the same reference, and give it back a second time.
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from .errors import WrongType


class Unique:
    """Refuses copies, shallow ones too."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        name = type(self).__name__
        raise WrongType(f"`{name}` cannot be copied or pickled: it belongs to this process; make another one")
