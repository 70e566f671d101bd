"""What is set in a row: its own settings, and those that are given for all rows as far as they hold for it."""

from collections.abc import Sequence

from zhichun.ablate.ablation import Ablation, Row
from zhichun.core.errors import UserError
from zhichun.fit.recipe import Recipe


def row_recipe(ablation: Ablation, row: Row, base: Recipe, given: Sequence[str]) -> Recipe:
    """Build the recipe of a row, but for its seed.

    Parameters
    ----------
    ablation, row
        The row and its table.
    base
        The recipe that the rows change.
    given
        ``KEY=VALUE`` for all rows. A row's own value of the same key wins. One that lies within a key that rows switch
        on, such as ``objective.ema.decay`` within ``objective.ema``, holds for those rows alone.

    Raises
    ------
    UserError
        With the name of the row.
    """
    somewhere = [own for other in ablation.rows for own in other.settings]
    before = [setting for setting in given if not any(_within(setting, own) for own in somewhere)]
    after = [setting for setting in given if _switches_on(row, setting)]
    try:
        return base.with_settings([*before, *row.settings]).with_settings(after)
    except UserError as error:
        raise in_row(row, error) from error


def overruled(ablation: Ablation, given: Sequence[str]) -> list[tuple[str, list[str]]]:
    """List what is given for all rows and some rows have of their own, with these rows."""
    found = []
    for setting in given:
        rows = [row.name for row in ablation.rows if any(_covers(own, setting) for own in row.settings)]
        if rows:
            found.append((setting, rows))
    return found


def require_effect(ablation: Ablation, given: Sequence[str]) -> None:
    """Refuse what is given for all rows and holds for none.

    Raises
    ------
    UserError
        For the first such setting.
    """
    everywhere = [setting for setting, rows in overruled(ablation, given) if len(rows) == len(ablation.rows)]
    for setting in given:
        around = any(_within(setting, own) for row in ablation.rows for own in row.settings)
        nowhere = around and not any(_switches_on(row, setting) for row in ablation.rows)
        if nowhere or setting in everywhere:
            raise UserError(
                f"--set {setting} has no effect: every row has its own.",
                remedy="Leave it out, or write a table of your own: zhichun ablate my_file.py:function",
            )


def effective(settings: Sequence[str]) -> list[str]:
    """List settings without those that a later one of the same key replaces."""
    return list({_key(setting): setting for setting in settings}.values())


def in_row(row: Row, error: UserError) -> UserError:
    """Say of an error which row it belongs to."""
    return UserError(f"row {row.name!r}: {error.problem}", remedy=error.remedy, file=error.file, row=error.row)


def _switches_on(row: Row, inner: str) -> bool:
    """Whether a row switches on what a setting is a part of."""
    last = {_key(own): own.partition("=")[2].strip() for own in row.settings}
    return any(_within(inner, f"{key}=") and value != "null" for key, value in last.items())


def _covers(own: str, given: str) -> bool:
    """Whether a row's own setting replaces what is given for all rows."""
    return _key(own) == _key(given) or _within(own, given)


def _within(inner: str, outer: str) -> bool:
    """Whether a setting is a part of what another sets."""
    return _key(inner).startswith(f"{_key(outer)}.")


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()
