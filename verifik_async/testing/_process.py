"""The stand-in as a process of its own, for measurements."""

import asyncio
import base64
import os
import pathlib
import sys
from asyncio.subprocess import PIPE, Process
from types import TracebackType
from typing import Self

import aiohttp

from ._answers import DataShape
from ._chance import Latency
from ._child import end, first_line
from ._control import COUNTS_PATH, ENROLL_PATH
from ._gallery import check_image

_PACKAGES = pathlib.Path(__file__).resolve().parents[2]
_INSTALLED = ("site-packages", "dist-packages")


class MockProcess:
    """A stand-in in a process of its own, so that it takes no time from the caller's.

    It runs while its `async with` block does, and ends with its parent whatever happens
    to that. It keeps no records of requests.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data_shape: DataShape = "array",
        latency: Latency = 0.0,
        rate: float | None = None,
        burst: float | None = None,
        retry_after: str | float | None = "1",
        seed: int = 0,
    ) -> None:
        """Set a process up; nothing is started yet. See `MockVerifik`."""
        span = latency if isinstance(latency, tuple) else (latency,)
        settings = {
            "port": port,
            "data-shape": data_shape,
            "latency": ",".join(map(str, span)),
            "rate": rate,
            "burst": burst,
            "retry-after": "none" if retry_after is None else retry_after,
            "seed": seed,
        }
        # One argument each: a text may begin with a dash.
        self._flags = [f"--{k}={v}" for k, v in settings.items() if v is not None]
        self._process: Process | None = None
        self._url: str | None = None

    async def __aenter__(self) -> Self:
        if self._process is not None:
            raise RuntimeError("a MockProcess can be entered only once")
        # -P: not whatever package of this name the working directory may hold.
        module = ("-P", "-m", "verifik_async.testing", "--die-with-parent")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *module,
            *self._flags,
            stdin=PIPE,
            stdout=PIPE,
            env=_environment(),
        )
        try:
            self._url = await first_line(self._process)
        except BaseException:
            await end(self._process)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await end(self._process)

    @property
    def url(self) -> str:
        """Base URL of the server, without a slash at its end.

        Raises:
            RuntimeError: The server was not started.
        """
        if self._url is None:
            raise RuntimeError("MockProcess is not started: use `async with`")
        return self._url

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            RuntimeError: The server was not started.
        """
        if self._process is None:
            raise RuntimeError("MockProcess is not started: use `async with`")
        return self._process.pid

    async def enroll(
        self,
        person_id: str,
        image: bytes,
        *,
        name: str | None = None,
        collection_id: str | None = None,
        gender: str | None = None,
        date_of_birth: str | None = None,
        nationality: str | None = None,
    ) -> None:
        """Let searches for this picture find this person; see `MockVerifik.enroll`.

        Raises:
            TypeError: The picture is not bytes.
            ValueError: The picture is empty.
        """
        check_image(image)
        fields = {
            "person_id": person_id,
            "image": base64.b64encode(image).decode(),
            "name": name,
            "collection_id": collection_id,
            "gender": gender,
            "date_of_birth": date_of_birth,
            "nationality": nationality,
        }
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(self.url + ENROLL_PATH, json=fields),
        ):
            pass

    async def counts(self) -> dict[str, int]:
        """Return `hits`, `max_in_flight` and `connections` so far."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(self.url + COUNTS_PATH) as response,
        ):
            counts: dict[str, int] = await response.json()
            return counts


def _environment() -> dict[str, str]:
    """Return this process's environment, in which the child finds this package.

    In a source checkout it may be importable only by the parent's working directory.
    """
    # An installed one is found anyway, and what is in PYTHONPATH would go before the
    # standard library.
    if _PACKAGES.name in _INSTALLED:
        return dict(os.environ)
    folders = [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
