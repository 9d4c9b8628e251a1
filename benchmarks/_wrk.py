"""wrk, which only writes requests and reads answers, where it is installed."""

import asyncio
import json
import pathlib
import re
import shutil
import tempfile
import urllib.parse
from asyncio.subprocess import PIPE

import attrs

from ._job import PATH, Job, UnansweredError, check_reply
from ._nginx import NotInstalledError

_HOPELESS = 60.0

# All connections share one body. Answers are not looked into, for that would be Lua's
# work and no longer the limit: the size of all of them tells whether they are right.
_SCRIPT = """\
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Authorization"] = "{authorization}"
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"us":%d,"bytes":%d,"errors":%d}}\\n',
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout
  ))
end
"""


@attrs.frozen(kw_only=True)
class WrkTurn:
    """What one turn took.

    Attributes:
        requests: That were answered.
        wall_s: In how many seconds.
        cpu_s: User and system time of wrk.
    """

    requests: int
    wall_s: float
    cpu_s: float


def find_wrk() -> str:
    """Return the path of wrk.

    Raises:
        NotInstalledError: there is none.
    """
    if (found := shutil.which("wrk")) is None:
        raise NotInstalledError("wrk is not installed: apt-get install wrk")
    return found


async def run_wrk(program: str, job: Job, body: bytes, seconds: int) -> WrkTurn:
    """Post a body again and again, by one thread, for some seconds.

    The answers must all be of one size, as those of servers that look at no request.

    Raises:
        UnansweredError: an answer is missing or wrong.
    """
    answer_size = await _size_of_answer(job, body)
    with tempfile.TemporaryDirectory() as folder:
        script = _write_script(pathlib.Path(folder), job, body)
        cpu = _cpu_of_children()
        printed = await _output_of(
            *(program, "--threads=1", f"--connections={job.concurrency}"),
            *(f"--duration={seconds}s", f"--timeout={_HOPELESS:g}s"),
            *(f"--script={script}", job.url + PATH),
        )
        cpu = _cpu_of_children() - cpu
    summary = json.loads(printed.splitlines()[-1])
    count = summary["requests"]
    # Of each connection one answer may have come in part.
    off = abs(summary["bytes"] - count * answer_size)
    if not count or summary["errors"] or off > job.concurrency * answer_size:
        raise UnansweredError(f"wrk: {summary}, {answer_size} bytes an answer")
    return WrkTurn(requests=count, wall_s=summary["us"] / 1e6, cpu_s=cpu)


def _write_script(folder: pathlib.Path, job: Job, body: bytes) -> pathlib.Path:
    (folder / "body.json").write_bytes(body)
    script = folder / "post.lua"
    text = _SCRIPT.format(
        body=folder / "body.json", authorization=job.headers["Authorization"]
    )
    script.write_text(text, encoding="utf-8")
    return script


async def _size_of_answer(job: Job, body: bytes) -> int:
    """Return the bytes of an answer on the wire; it is checked."""
    url = urllib.parse.urlsplit(job.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(_head(job, len(body)) + body)
        async with asyncio.timeout(_HOPELESS):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
            if length is None:
                raise UnansweredError("an answer without a length")
            content = await reader.readexactly(int(length[1]))
    finally:
        writer.close()
        await writer.wait_closed()
    check_reply(int(head.split()[1]), content)
    return len(head) + len(content)


def _head(job: Job, length: int) -> bytes:
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {length}",
        *(f"{name}: {text}" for name, text in job.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _cpu_of_children() -> float:
    """Return the CPU seconds of all processes of ours that have ended."""
    import resource  # noqa: PLC0415 - not everywhere, nor is wrk

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def _output_of(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        async with asyncio.timeout(_HOPELESS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise UnansweredError(f"wrk ended with {process.returncode}")
    return printed.decode()
