# SPDX-License-Identifier: MIT
"""What `async with` does with everything that has a close()."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """`async with` closes it at the end."""

    def close(self) -> None:
        """Closes it. May be repeated."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
