"""Short descriptions of what holds arrays, for `print`."""

from collections.abc import Mapping
from typing import Any


def summary(value: Any, fields: Any) -> str:
    """`Name(field=type[shape], …)` of the fields of a container that are neither None nor empty."""
    known = {name: getattr(value, name) for name in fields}
    shown = [
        f"{name}={_short(v)}" for name, v in known.items() if not (v is None or (isinstance(v, Mapping) and not v))
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(v)}" for key, v in value.items()) + "}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)
