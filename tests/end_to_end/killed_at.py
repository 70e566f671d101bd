"""Runs `zhichun` again and again and kills it each time at another moment: `killed_at.py MOMENTS ARGUMENT...`.

MOMENTS is JSON: of each moment the audit event of the interpreter, a pattern of its first argument, and at which such
event the process kills itself. Prints how each run ended. The runs are forks of one process, so that the libraries are
imported once, also those that torch and transformers import late.
"""

import importlib
import json
import os
import re
import signal
import sys

from zhichun.cli import main

IMPORTED_ONCE = ("zhichun.fit.train", "torch._dynamo", "transformers.models.xlm_roberta.modeling_xlm_roberta")


def kill_at(event: str, pattern: str, count: int) -> None:
    left = count

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name == event and re.search(pattern, str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def ending_of(moment: tuple[str, str, int], arguments: list[str]) -> int:
    child = os.fork()
    if child == 0:
        kill_at(*moment)
        main(arguments)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    endings = [ending_of(moment, sys.argv[2:]) for moment in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps(endings) + "\n")
