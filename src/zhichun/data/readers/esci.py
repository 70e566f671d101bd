"""The Shopping Queries Dataset in its official layout (Reddy et al., 2022): two Parquet files in a folder."""

from pathlib import Path

from zhichun.core.errors import UserError
from zhichun.core.schema import OFFICIAL_EXAMPLES_FILE, OFFICIAL_PRODUCTS_FILE


def official_files(folder: Path) -> tuple[Path, Path]:
    """Name the two files of a folder in the official layout; see `require_official`.

    Parameters
    ----------
    folder
        Such a folder.

    Returns
    -------
    tuple of Path
        Examples and products.
    """
    return folder / OFFICIAL_EXAMPLES_FILE, folder / OFFICIAL_PRODUCTS_FILE


def require_official(folder: Path, wanted: tuple[Path, ...]) -> None:
    """Refuse a folder in which official files are missing.

    Parameters
    ----------
    folder
        The folder that the user named.
    wanted
        Those of its files that are needed.

    Raises
    ------
    UserError
        If it is no folder, or lacks one of them.
    """
    if not folder.exists():
        raise UserError("there is no such folder", remedy="Name the folder of the dataset.", file=folder)
    if not folder.is_dir():
        raise UserError(
            "is a file, not a folder in the official layout",
            remedy="Give your own tables with examples=… and products=… (--examples FILE --products FILE).",
            file=folder,
        )
    missing = [path.name for path in wanted if not path.is_file()]
    if missing:
        raise UserError(
            f"lacks {' and '.join(missing)}",
            remedy="Name a folder that holds the Shopping Queries Dataset, or give your own tables with examples=… "
            "and products=… (--examples FILE --products FILE).",
            file=folder,
        )
