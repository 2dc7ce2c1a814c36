"""Interpreters for a drill's services: the same Python, with something changed before a module runs.

A service starts its children with the interpreter that it runs under itself, so what is changed is
changed in all of them, and nothing in the services knows of it.
"""

import os
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


def interpreter(path: Path, module: str, *arguments: str) -> str:
    """Write a program to `path` that runs `-m MODULE ARGUMENTS` as Python does, behind `module`,
    whose own arguments come first. Its path."""
    command = shlex.join([sys.executable, "-m", module, *arguments])
    search = shlex.quote(os.pathsep.join([str(_ROOT), *filter(None, sys.path)]))
    path.write_text(f'#!/bin/sh\nPYTHONPATH={search} exec {command} "$0" "$@"\n')
    path.chmod(0o700)
    return str(path)


def run_as(arguments: list[str]) -> None:
    """The other side: `arguments` are the interpreter's own path and what Python was asked to run."""
    path, dash_m, module, *rest = arguments
    assert dash_m == "-m", arguments
    sys.executable = path
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def replace(owner: Any, name: str, new: Any) -> Any:
    """Put `new` in the place of an attribute; the old one. Raises AttributeError without one."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old
