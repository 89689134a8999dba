"""Numbers as Grafana would write them, for the units that the dashboards use. An unknown unit is an error."""

import datetime
import math
import re

SECONDS = [(1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "hours"), (math.inf, 86400, "days")]
RATES = {"reqps": " req/s", "cps": " c/s", "ops": " ops/s"}


def digits(value, decimals):
    """A number with the given decimals, or with three significant figures."""
    if decimals is None:
        size = abs(value)
        decimals = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4
    return f"{value:.{decimals}f}"


def scaled(value, base, names, decimals):
    """A number with the largest prefix that leaves it above one."""
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return digits(value, decimals) + names[power]


def text(value, unit, decimals=None):
    """The value with its unit."""
    if value is None or math.isnan(value):
        return ""
    if unit == "short":
        return scaled(value, 1000, ["", " K", " Mil", " Bil"], decimals)
    if unit in RATES:
        return scaled(value, 1000, ["", "k", "M"], decimals) + RATES[unit]
    if unit == "percentunit":
        return digits(value * 100, decimals) + "%"
    if unit in ("bytes", "Bps"):
        names = [" B", " KiB", " MiB", " GiB", " TiB"] if unit == "bytes" else [" B/s", " kB/s", " MB/s", " GB/s"]
        return scaled(value, 1024 if unit == "bytes" else 1000, names, decimals)
    if unit == "s":
        for below, size, name in SECONDS:
            if abs(value) < below:
                return f"{digits(value / size, decimals)} {name}"
    if unit == "dateTimeAsIso":
        return f"{datetime.datetime.fromtimestamp(value / 1000, datetime.timezone.utc):%Y-%m-%d}"
    raise ValueError(f"draw the unit {unit} too")


def tick(value, unit):
    """The value at an axis: no zeros that say nothing."""
    if value == 0:
        return "0"
    return re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text(value, unit)).replace(". ", " ").replace(".%", "%")


def ticks(low, high, unit, count=5):
    """Round values between two bounds, for an axis."""
    base = 1
    if unit == "bytes":
        while high / base >= 1024:
            base *= 1024
    if unit == "s":
        base = next((size for _, size, _ in reversed(SECONDS) if high >= size), 1)
    span = (high - low) / base or 1
    raw = span / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw) * base
    first = math.floor(low / step) * step
    found = []
    while first <= high + step * 0.001:
        if first >= low - step * 0.001:
            found.append(first)
        first += step
    return found
