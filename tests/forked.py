"""Starts commands quickly: one process that has imported everything forks a child for each.

    python tests/forked.py MODULE...

Reads a request a line, {"arguments", "cwd", "environment", "stdout", "stderr"} as JSON, runs `python -m ablation.cli`
with these in a child of its own, and answers with the exit code. Nothing is computed before the fork, so a child is
like a new process, without the seconds in which torch is imported.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys


def run(request: dict) -> None:
    """In the child: becomes the command."""
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["stdout"], os.O_WRONLY),
        (2, request["stderr"], os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags), descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=False, write_through=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv = ["ablation", *request["arguments"]]
    runpy.run_module("ablation.cli", run_name="__main__", alter_sys=True)


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        child = os.fork()
        if not child:
            run(json.loads(line))
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, file=answers, flush=True)


if __name__ == "__main__":
    main()
