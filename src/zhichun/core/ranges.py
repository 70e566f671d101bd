"""Ranges of settings: one check, one wording."""

from typing import Any

from zhichun.core.errors import UserError


def require_above_zero(settings: Any, *names: str, remedy: str) -> None:
    """Refuse settings that are not above zero, or not finite; those that are ``None`` are off.

    Parameters
    ----------
    settings
        A dataclass of settings.
    names
        Its fields.
    remedy
        How to switch off what a zero would.

    Raises
    ------
    UserError
        Names the first that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{type(settings).__name__} with {name}={value}: it must be above zero.", remedy=remedy)
