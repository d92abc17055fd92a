"""The one place that says which trades make prices.

Condition flag bits as on the consolidated tape: form-T and outside-hours prints are reported outside the regular
session, odd lots are smaller than a round lot. They are real trades, so they count in volume; they do not set the open,
high, low and close of a bar or a day.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORM_T = 0x2000
OUTSIDE_HOURS = 0x4000
ODD_LOT = 0x8000_0000

VOLUME_ONLY = FORM_T | OUTSIDE_HOURS | ODD_LOT


def sets_prices(cond: int) -> bool:
    """True when a trade with these condition bits counts in open, high, low and close."""
    return not cond & VOLUME_ONLY


def prices_set(conds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The same of many trades."""
    silent: NDArray[np.bool_] = np.not_equal(conds & VOLUME_ONLY, 0)
    return ~silent
