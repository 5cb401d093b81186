"""The resume file: the state of a run in progress, beside its checkpoint until the run is done.

If the run in the file is not resumed, the file is renamed, never lost.

It is a safetensors file like the checkpoint, whose metadata has one key: see `saved`. One run at a time holds the file
by a lock. Before the first save the file is empty.
"""

import contextlib
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from aecli import __version__, files
from aecli.data.places import Where
from aecli.errors import AecliError, CheckpointError, Finished
from aecli.model.checkpoint import Origin, read
from aecli.training.saved import FORMAT, KEY, lock, of_another_version

LONGEST_SECONDS = 60.0  # between two saves
OTHER_FOLDER = "name a folder of your own: TMPDIR=FOLDER aecli ..."
SHARE = 0.02  # the share of the time for saving

Array = np.ndarray[Any, Any]


class ResumeFile:
    """The file of a run's state. This process holds it from the constructor until `close` or `remove`."""

    def __init__(
        self,
        checkpoint: Where,
        *,
        resume: bool,
        force: bool,
        finish: bool = False,
        command: Sequence[str] | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Lock the resume file of a future checkpoint.

        `resume` resumes the run in the file, `finish` ends that run where it is, and `force` discards it. Without any
        of them the file is renamed. `command` are the words that started this run, which are saved with it. `announce`
        gets sentences on the file.
        Raises AecliError if another run holds the file, or if there is no run to finish.
        """
        self._started, self._seconds_before = time.perf_counter(), 0.0
        self.path = _beside(checkpoint)
        resume = resume or finish
        self.finish = finish
        self._checkpoint, self._resume, self._announce = checkpoint, resume, announce
        self._about: dict[str, Any] = {"command": None if command is None else list(command)}
        self._descriptor = self._locked()
        self.found = os.fstat(self._descriptor).st_size > 0 and (resume or not force)
        if force and not resume:
            os.ftruncate(self._descriptor, 0)  # a discarded run stays discarded, even if this one fails
        if self.found and not resume:
            self._set_aside("holds a run that was stopped before its end", "--resume would have resumed it")
        self._due = 0.0
        if finish and not self.found:
            self.close()
            raise AecliError(f"there is no run to finish: {self.path} does not exist", hint=self._afresh())

    def begin(self, run: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Return the state to resume from, as it was given to `save`; None if the run starts anew.

        `about` holds other facts of the run, which are saved with it: see `saved`.
        Raises Finished if the checkpoint is the result of this run, AecliError if another version saved the state, or
        if there is no such run to finish.
        """
        self._about |= about
        if not self._resume:
            return None
        with contextlib.suppress(CheckpointError):  # there is none, or it is to be replaced
            if read(self._checkpoint).fingerprint == fingerprint(run):
                raise Finished
        if not self.found:
            self._announce("no run to resume: starting a new one")
            return None
        try:
            with safetensors.safe_open(self.path, "np") as file:
                kept = json.loads((file.metadata() or {})[KEY])
                if kept.get("format", 1) != FORMAT:
                    raise of_another_version(self.path, kept, "--finish" if self.finish else "--resume")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            differing = _differences(kept["run"], run)
            position, seconds_before = kept["position"], float(kept.get("seconds", 0.0))
        except (
            safetensors.SafetensorError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            self.give_up(error)
            return None
        if differing:
            self._set_aside(f"holds a run of other data or options: {'; '.join(differing)}")
            return None
        if not self.finish:
            self._announce(f"resuming {self.path}")
        self._seconds_before = seconds_before
        return tensors, position

    def give_up(self, error: Exception) -> None:
        """Rename a damaged file."""
        self._seconds_before = 0.0
        self._set_aside(f"is damaged ({error})", damaged=True)

    def _afresh(self) -> str:
        """Return the command that starts this run anew."""
        command = self._about["command"]
        return "train without --finish" if command is None else shlex.join(["aecli", *command])

    def _set_aside(self, why: str, *more: str, damaged: bool = False) -> None:
        """Rename the file, and hold a new one. Raises AecliError if it cannot be renamed, or was to be finished."""
        if self.finish:
            shows = f"{shlex.join(['aecli', 'info', str(self.path)])} shows what it holds"
            raise AecliError(f"{self.path} {why}", hint=f"start a new run: {self._afresh()}" if damaged else shows)
        backup, number = self.path.with_name(f"{self.path.name}.bak"), 1
        while backup.exists():
            number += 1
            backup = self.path.with_name(f"{self.path.name}.bak{number}")
        try:
            self.path.rename(backup)
        except OSError as error:
            raise AecliError(f"{backup}: cannot be written ({error.strerror or error})") from error
        self._hold(-1)
        self._descriptor, self.found = self._locked(), False
        self._announce("; ".join([f"{self.path} {why}: it is now {backup}, and this run starts anew", *more]))

    def save(self, run: Mapping[str, Any], tensors: Mapping[str, Array], position: Mapping[str, Any]) -> None:
        """Save a state durably. It replaces the one before only when it is complete.

        Raises AecliError if the system refuses.
        """
        started, descriptor = time.monotonic(), -1
        kept = {"format": FORMAT, "run": run, "position": position, "seconds": self.seconds, **self._about}
        metadata = {KEY: json.dumps(kept, sort_keys=True)}
        data = safetensors.numpy.save({name: np.asarray(t, order="C") for name, t in tensors.items()}, metadata)
        try:
            with files.replacing(self.path) as stream:
                stream.write(data)
                descriptor = os.dup(stream.fileno())  # the lock is on the new file, and must outlast the stream
                lock(descriptor)
        except AecliError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        self._hold(descriptor)
        now = time.monotonic()
        self._due = now + min(LONGEST_SECONDS, (now - started) / SHARE)

    @property
    def seconds(self) -> float:
        """The duration of the run in all its sessions; this session counts from the creation of this object."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def is_saved(self) -> bool:
        """Whether there is a run that can be resumed."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_size > 0

    def is_due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() >= self._due

    def postpone(self) -> None:
        """Set the next save to a minute from now."""
        self._due = time.monotonic() + LONGEST_SECONDS

    def close(self) -> None:
        """Release the file, and remove it if nothing was saved in it."""
        if not self.is_saved:
            self.remove()
        self._hold(-1)

    def remove(self) -> None:
        """Remove the file and release it, because the run is done. A file that is no longer held is not touched."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
        self._hold(-1)

    def _hold(self, descriptor: int) -> None:
        """Replace the descriptor of the file, -1 for none. The stored descriptor is never a closed one."""
        before, self._descriptor = self._descriptor, descriptor
        if before >= 0:
            os.close(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _locked(self) -> int:
        """Open the file by its name, and lock it."""
        is_here = isinstance(self._checkpoint, Path)  # else the file is in a folder that all users can write to
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if is_here else os.O_NOFOLLOW)
        while True:
            try:
                descriptor = os.open(self.path, flags, 0o666 if is_here else 0o600)
            except OSError as error:
                raise AecliError(f"{self.path}: cannot be written ({error.strerror or error})") from error
            if not is_here and os.fstat(descriptor).st_uid != os.geteuid():
                os.close(descriptor)
                raise AecliError(f"{self.path} belongs to another user", hint=OTHER_FOLDER)
            if not lock(descriptor):
                os.close(descriptor)
                raise AecliError(f"{self.path} is held by another run, which writes the same checkpoint")
            try:
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)  # another file took the name meanwhile


def _beside(checkpoint: Where) -> Path:
    """Return the resume file of a checkpoint: beside it, or in the temporary folder if the checkpoint is remote.

    In the temporary folder its name contains a digest of the place, so that the same command finds it again.
    """
    if isinstance(checkpoint, Path):
        return checkpoint.with_name(f"{checkpoint.name}.resume")
    import tempfile

    digest = hashlib.sha256(f"{os.getuid()} {checkpoint}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"aecli-{digest}-{checkpoint.name}.resume")


def described(configs: Mapping[str, Any], origin: Origin, dtype: str, device: str) -> dict[str, Any]:
    """Return the description of a run, all that determines its result: its settings, its rows, its kind of device.

    The settings include the share and the seed of the held-out rows. `dtype` is the type of the rows' values.
    """
    rows = {"training": [dtype, origin.block, origin.rows], "held-out": origin.test}
    return json.loads(json.dumps({**configs, "rows": rows, "device": device, "aecli": __version__}))  # type: ignore[no-any-return]


def fingerprint(run: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description without the version, so that a newer one need not train the same again."""
    lasting = {name: value for name, value in run.items() if name != "aecli"}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def _differences(kept: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Return the differences between two descriptions, in words."""
    differing = []
    for group in {**run, **kept}:  # one has what the other lacks
        before, now = kept.get(group), run.get(group)
        pairs = [(group, before, now)]
        if isinstance(before or now, dict):
            before, now = before or {}, now or {}
            pairs = [(name, before.get(name), now.get(name)) for name in {**now, **before}]
        for name, *both in pairs:
            if both[0] != both[1]:
                old, new = ("not set" if value is None else value for value in both)
                differing.append(f"the {name} rows" if group == "rows" else f"{name} was {old}, and is {new}"[:200])
    return differing
