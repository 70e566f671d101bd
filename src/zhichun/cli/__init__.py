"""The command line: parse, call one function, show what it gives.

Exit status 0; 1 for a `UserError` (one message, no trace); 2 for wrong usage.
"""

import errno
import io
import os
import sys
import time
from collections.abc import Sequence

from rich.markup import escape

from zhichun.cli import data, judging, models, training, using
from zhichun.cli.options import app
from zhichun.core.console import stderr
from zhichun.core.errors import UserError

__all__ = ["app", "main"]

COMMANDS = (data, judging, models, training, using)  # each put its own into the application
INTERRUPTED = 130
SECONDS_TO_END = 3.0
_FULL = "Nothing half-written is left. Free some space, or write elsewhere, and call it again."
_ELSEWHERE = "Name another place, one where you may write."
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _ELSEWHERE),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), "Check the path."),
}

# What a command may miss, and the extra that brings it.
EXTRAS = {
    "train": ("torch", "transformers", "accelerate", "safetensors"),
    "audit": ("cleanlab", "sklearn"),
    "onnx": ("onnx", "onnxruntime", "onnxscript", "openvino", "nncf"),
    "word2vec": ("gensim",),
    "serve": ("fastapi", "uvicorn", "pydantic", "starlette", "yaml", "bm25s"),
    "translate": ("sentencepiece",),
    "stack": ("lightgbm",),
    "judge": ("openai",),
    "cloud": ("fsspec",),
    "ray": ("ray",),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit status."""
    # Threads that wait busily for each other are ten times slower where other work shares the cores. Torch reads this
    # when it is imported, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these letters is no reason to fail
    try:
        app(args=None if arguments is None else list(arguments), prog_name="zhichun")
    except UserError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = next((extra for extra, names in EXTRAS.items() if error.name in names), None)
        if extra is None:
            raise
        _fail(f"this needs {error.name}, which is not installed.\nInstall it with: pip install 'zhichun[{extra}]'")
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        _fail(f"{error}\n{REMEDIES[error.errno]}")
    except SystemExit as ending:
        if ending.code == INTERRUPTED:
            _fail("interrupted; run it again to resume (zhichun train with --resume).", INTERRUPTED)
        raise


def _fail(message: str, status: int = 1) -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(SECONDS_TO_END)  # where the first process fails too, its launcher ends this one before it says so
    stderr.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)
