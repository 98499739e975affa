"""Times as people write them, ISO 8601, without NumPy, which the command line starts without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_YEARS = range(1678, 2262)  # that nanoseconds since 1970 reach whole


def parse_iso(text: str) -> datetime:
    """The instant of a text in UTC, without a zone; of a day its first.

    Raises:
      ValueError: it is none, or outside the years 1678 to 2261; the message says what is expected.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            instant = instant.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(f"{str(text)!r} is no time; write it like 2001-01-31 or 2001-01-31T06:00") from None
    if instant.year not in _YEARS:
        raise ValueError(f"{text!r} lies outside the years {_YEARS[0]} to {_YEARS[-1]}")
    return instant


def is_day(text: str) -> bool:
    """Whether a text names a day as a whole, and no time of it."""
    return len(text) <= len("2001-01-31")


def is_span(first: str, last: str) -> bool:
    """Whether there is time from ``first`` to ``last``, both inclusive: of a day that is the last all of it.

    Raises:
      ValueError: as ``parse_iso``.
    """
    return parse_iso(first) < parse_iso(last) + (timedelta(days=1) if is_day(last) else timedelta.resolution)
