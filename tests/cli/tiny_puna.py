"""The command `puna`, where every model is a tiny one (tiny_session.py): what the process tests run."""

import os
import sys
import types

from puna.cli import main

if __name__ == "__main__":
    if os.isatty(0):  # a new session's first terminal becomes its own, so that Ctrl-C reaches it
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def open_chat(model, **given):
        from tiny_session import open_chat

        return open_chat(model, **given)

    load = types.ModuleType("puna.engine.load")
    load.open_chat = open_chat
    sys.modules["puna.engine.load"] = load
    sys.exit(main.main())
