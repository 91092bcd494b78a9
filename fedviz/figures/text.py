"""Numbers and names as a person reads them: true minus, thousands commas, three digits."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

__all__ = [
    "MINUS",
    "byte_size",
    "counted",
    "decimals",
    "distinct_names",
    "escaped",
    "middle_ellipsis",
    "number",
    "panel_title",
    "percentage",
    "shape_text",
    "short_number",
    "signed",
]

MINUS = "−"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; whole numbers keep all of theirs.

    >>> number(0.90833), number(-1437), number(802816.4), number(1.5e-7)
    ('0.908', '−1,437', '802,816', '1.50 × 10⁻⁷')
    """
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if not -4 <= power < 9:
        text = f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
    else:
        text = f"{value:,.{max(0, digits - 1 - power)}f}"
    return text.replace("-", MINUS)


def short_number(value: float) -> str:
    """A number for an axis: two digits, no trailing zeros.

    >>> short_number(0.4666), short_number(-0.2), short_number(1.0)
    ('0.47', '−0.2', '1')
    """
    text = number(float(value), digits=2)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def decimals(value: float, places: int = 3) -> str:
    """A number with a fixed count of decimal places, as a column of numbers needs it.

    >>> decimals(0.9), decimals(-0.0001)
    ('0.900', '0.000')
    """
    if not math.isfinite(value):
        return number(value)
    text = f"{value:,.{places}f}"
    is_zero = not any(digit in text for digit in "123456789")
    return text.replace("-", "" if is_zero else MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A number that always shows its sign, but for zero and NaN.

    >>> signed(0.00686), signed(-0.04)
    ('+0.00686', '−0.0400')
    """
    text = number(float(value), digits)
    return f"+{text}" if value > 0 else text


def percentage(share: float, places: int = 1) -> str:
    """A share of one as a percentage; what is there is never rounded away.

    >>> percentage(0.0504), percentage(1.0), percentage(0.00001), percentage(0.47, places=0)
    ('5.0%', '100%', 'under 0.1%', '47%')
    """
    if not math.isfinite(share):
        return number(share)
    least = 10.0**-places
    if 0 < share * 100 < least / 2:
        return f"under {least:.{places}f}%"
    if 1 - least / 200 < share < 1:
        return f"over {100 - least:.{places}f}%"
    if share in (0, 1):
        return f"{share * 100:.0f}%"
    return f"{decimals(share * 100, places)}%"


def byte_size(count: int) -> str:
    """A number of bytes in decimal units.

    >>> byte_size(512), byte_size(9_640), byte_size(326_000_000)
    ('512 bytes', '9.64 kB', '326 MB')
    """
    if count < 1000:
        return counted(count, "byte")
    power = min((len(str(count)) - 1) // 3, 5)
    if round(count / 1000**power) == 1000 and power < 5:
        power += 1
    return f"{number(count / 1000**power)} {('kB', 'MB', 'GB', 'TB', 'PB')[power - 1]}"


def shape_text(shape: Sequence[int]) -> str:
    """A tensor's shape.

    >>> shape_text((64, 32)), shape_text(())
    ('64 × 32', 'scalar')
    """
    return " × ".join(f"{size:,}" for size in shape) if len(shape) else "scalar"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    >>> counted(1, "cell"), counted(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def middle_ellipsis(name: str, limit: int = 24) -> str:
    """A name of at most ``limit`` characters; where it is longer, its middle is left out.

    >>> middle_ellipsis("encoder/block_11/attention/kernel", 20)
    'encoder/bl…on/kernel'
    """
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return f"{name[: limit - 1 - tail]}…{name[len(name) - tail :]}"


def distinct_names(names: Sequence[str], limit: int = 32) -> list[str]:
    """Names for an axis: layers that all have in common left out, then at most ``limit`` long.

    >>> distinct_names(["model/encoder/kernel", "model/decoder/kernel"])
    ['encoder/kernel', 'decoder/kernel']
    """
    paths = [name.split("/") for name in names]
    shared = 0
    if len(paths) > 1:
        depth = min(len(path) for path in paths) - 1
        while shared < depth and len({path[shared] for path in paths}) == 1:
            shared += 1
    return [middle_ellipsis("/".join(path[shared:]), limit) for path in paths]


def panel_title(role: str, client: str = "") -> str:
    """What a heatmap shows, in a few words; ``client`` is who it is about, if anyone.

    >>> panel_title("other", "c09"), panel_title("client-aggregate", "c00")
    ('client c09', 'c00 − aggregate')
    """
    if role == "spread":
        return "spread of the clients"
    parts = role.split("-")
    names = [client if part in ("client", "other") else part for part in parts]
    return f"client {client}" if len(parts) == 1 and client else f" {MINUS} ".join(names)


def escaped(name: str) -> str:
    """A name from a file, safe in plotly's labels, which read a little HTML, links included."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    return html.escape(line, quote=False)
