# SPDX-License-Identifier: MIT
from treadle import Loop

__all__ = ["Loop"]
