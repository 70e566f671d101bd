"""Folders of Arrow files that are made once from a dataset, shared by all who ask, and mapped rather than read."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset_folder import left_over


@contextmanager
def made_once(folder: Path, what: str) -> Iterator[Path]:
    """Give a folder to write to that takes its name if all goes well, unless another process was first.

    Parameters
    ----------
    folder
        The folder to be; what killed processes left beside it is removed.
    what
        What is being written, for the message.

    Raises
    ------
    UserError
        When it cannot be written; nothing is left of it.
    """
    for old in left_over(folder, "partial"):
        shutil.rmtree(old, ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.rename(folder)
    except OSError as error:
        if folder.is_dir():  # another process was first with the same
            return
        raise UserError(
            f"the {what} could not be written ({error.strerror or error}).",
            file=folder,
            remedy="Free some disk space, or make the dataset folder writable.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_batches(path: Path, batches: Iterable[dict[str, pa.Array]]) -> None:
    """Write batches of columns as one Arrow file, uncompressed, so that it can be mapped."""
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as sink:
        for columns in batches:
            batch = pa.RecordBatch.from_pydict(columns)
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def map_batches(path: Path) -> list[pa.RecordBatch]:
    """Map the batches that `write_batches` wrote, without reading them.

    Raises
    ------
    UserError
        When the file is missing or damaged.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"cannot be read ({error}).", file=path, remedy=f"Delete {path.parent}; it is made again from the dataset."
        ) from error
