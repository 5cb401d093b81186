"""The program as a command that starts at once: a server imports it, and forks a process for each command line.

Run with a path, this is the server. What it forks has the caller's arguments, folder, environment and open files, and
the caller ends as it does. Signals are passed on.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CALLER = r"""#!{python} -SE
import array, json, os, signal, socket, sys
files = [int(name) for name in os.listdir("/dev/fd")]
files = [file for file in files if os.path.exists(f"/dev/fd/{{file}}")]
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), files]).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [len(request).to_bytes(4, "big")], files)
server.sendall(request)
answers = server.makefile("rb")
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(process, number))
code = os.waitstatus_to_exitcode(int(answers.readline()))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
STARTING = 120  # seconds


class Server:
    """The server, and in `folder` the command `aecli`, which asks it."""

    def __init__(self, folder):
        address = folder / "served"
        self._process = subprocess.Popen([sys.executable, __file__, str(address)])
        self.folder = folder / "bin"
        self.folder.mkdir()
        program = self.folder / "aecli"
        program.write_text(CALLER.format(python=sys.executable, address=str(address)))
        program.chmod(0o755)
        started = time.monotonic()
        while not address.exists():
            assert self._process.poll() is None
            assert time.monotonic() < started + STARTING
            time.sleep(0.02)

    def close(self):
        self._process.terminate()
        self._process.wait()


def _import_all():
    import aecli
    from aecli.cli.deferred import absent

    with absent("pandas"):  # as the program does
        for module in pkgutil.walk_packages(aecli.__path__, "aecli."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # of what an extra brings
                    importlib.import_module(module.name)
        for name in ("pyarrow.csv", "pyarrow.parquet", "sklearn.datasets", "matplotlib.backends.backend_agg"):
            importlib.import_module(name)


def _run():
    """Run the program, and end without taking apart what was imported, which takes long."""
    from aecli.__main__ import main

    code = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _answer(connection):
    """Run what one caller asks for in a process of its own, and tell how it ended."""
    size, files, _, _ = socket.recv_fds(connection, 4, 253)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(1 << 16)
    words, folder, variables, numbers = json.loads(request)
    process = os.fork()
    if process == 0:
        connection.close()
        above = max([*files, *numbers]) + 1
        for file in files:
            os.dup2(file, above + file)
        for file, number in zip(files, numbers, strict=True):
            os.dup2(above + file, number)
        os.closerange(above, 2 * above)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["aecli", *words]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _run()
    connection.sendall(b"%d\n" % process)
    for file in files:
        os.close(file)
    connection.sendall(b"%d\n" % os.waitpid(process, 0)[1])


def _serve(address):
    _import_all()
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen(64)
    server.settimeout(5)
    Path(f"{address}.new").rename(address)
    parent = os.getppid()
    gc.freeze()  # what is collected would be copied
    while os.getppid() == parent:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        with contextlib.suppress(TimeoutError):
            connection, _ = server.accept()
            with connection:
                connection.setblocking(True)
                if os.fork() == 0:
                    server.close()
                    _answer(connection)
                    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
