"""`python -m infra.embedded.detached OPTIONS FD`: an instance without a terminal.

It is started in a session of its own with its output in `<data_dir>/logs/detached.log`, and writes
one DetachedReply to FD when it is ready or has failed.
"""

import asyncio
import os
import sys

import msgspec

from infra.embedded.instance import Announcement, DetachedReply, UpOptions
from infra.embedded.launcher import Observer, run_up
from infra.embedded.problems import explain


class _Replying(Observer):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self, announcement: Announcement, took_s: float) -> None:
        """Tell the command that waits for us."""
        del took_s
        self.reply(DetachedReply(outcome="ready", announcement=announcement))

    def reply(self, reply: DetachedReply) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.write(descriptor, msgspec.json.encode(reply))
        except OSError:
            # It was interrupted and waits no more.
            pass
        finally:
            os.close(descriptor)


def main(arguments: list[str]) -> int:
    """The exit status: 0 after a signal, 1 when it could not start."""
    options = msgspec.json.decode(arguments[0], type=UpOptions)
    observer = _Replying(int(arguments[1]))
    os.set_inheritable(int(arguments[1]), False)
    try:
        return asyncio.run(run_up(options, observer))
    except Exception as error:
        problem = explain(error)
        if problem is None:
            observer.reply(DetachedReply(outcome="failed", problem=repr(error)))
            raise
        observer.reply(DetachedReply(outcome="failed", problem=problem))
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
