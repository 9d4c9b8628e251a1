"""The stand-in in a thread of its own, for synchronous tests."""

import asyncio
import base64
import concurrent.futures
import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests
from support import client_of, complaints

from verifik_async import ConnectError, RetryPolicy
from verifik_async.cli._faces import draw_face, encode
from verifik_async.testing import Fault, MockVerifik
from verifik_async.testing._thread import ServerThread

ONCE = RetryPolicy(attempts=1)
PATH = "/v2/face-recognition/search-active-user"


def search(mock, session=requests, image=b"ABC" * 100):
    """Search with what has no event loop; return the status."""
    answer = session.post(
        mock.url + PATH,
        json={
            "image": base64.b64encode(image).decode(),
            "os": "IOS",
            "min_score": 0.7,
            "search_mode": "FAST",
        },
        headers={"Authorization": "Bearer any"},
        timeout=10,
    )
    return answer.status_code


@pytest.fixture
def stalled():
    """Send a search in a thread, to be cut off; return when it is on its way."""
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def send(mock):
            def cut_off():
                with contextlib.suppress(requests.ConnectionError):
                    search(mock)

            before = mock.in_flight
            pool.submit(cut_off)
            while mock.in_flight == before:
                time.sleep(0.001)

        yield send


def test_synchronous_code_is_served():
    """A client that blocks its thread is answered, counted and recorded."""
    with MockVerifik() as mock:
        mock.enroll("person-1", b"ABC" * 100)
        mock.script(Fault.status(503))
        assert [search(mock), search(mock)] == [503, 200]
        assert [record.status for record in mock.requests] == [503, 200]
        assert (mock.hits, mock.connections, mock.in_flight) == (2, 2, 0)
        mock.reset()
        assert (mock.hits, mock.requests) == (0, ())
    with pytest.raises(requests.ConnectionError):
        search(mock)


def test_each_loop_is_served(image):
    """One stand-in serves one event loop after the other."""
    with MockVerifik() as mock:
        mock.enroll("person-1", image)

        async def main():
            async with client_of(mock.url) as client:
                return (await client.search_active_user(image)).best.id

        assert [asyncio.run(main()) for _ in range(2)] == ["person-1"] * 2

        async def refused():
            async with client_of(mock.url, retry=ONCE) as client:
                await client.search_active_user(image)

    with pytest.raises(ConnectError):
        asyncio.run(refused())


def test_leaving_is_quick_while_a_search_stalls(stalled):
    """A stalled search, and one whose latency runs, are cut off at once."""
    with MockVerifik(latency=60) as mock:
        mock.script(Fault.stall())
        stalled(mock)
        stalled(mock)
        began = time.perf_counter()
    assert time.perf_counter() - began < 0.5
    assert threading.active_count() <= 1 + 2  # the two that sent


def test_connections_of_the_last_moment():
    """What connects while the block ends is refused or cut off, and never left open."""
    for number in range(60):
        with MockVerifik() as mock:
            port = int(mock.url.rpartition(":")[2])
            last = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            last[number % 3].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for sock in last:
            with sock, contextlib.suppress(ConnectionResetError):
                sock.settimeout(5)
                while sock.recv(1000):
                    pass
    gc.collect()


def test_once_only():
    """Entered again, in either way, it refuses, and goes on to serve."""
    with MockVerifik() as mock:
        with pytest.raises(RuntimeError, match="only once"), mock:
            pass
        assert search(mock) == 200
    with pytest.raises(RuntimeError, match="only once"), mock:
        pass


def test_errors_of_the_start_are_the_callers():
    """A port in use is told where the block begins, and no thread is left."""
    with MockVerifik() as mock:
        port = int(mock.url.rpartition(":")[2])
        before = threading.active_count()
        with pytest.raises(OSError, match="in use"), MockVerifik(port=port):
            pass
        assert threading.active_count() == before


def test_no_loop_to_be_had(monkeypatch):
    """A machine without a file left for an event loop is told of, too."""

    def new_event_loop():
        raise OSError("too many open files")

    mock = MockVerifik()
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.events, "new_event_loop", new_event_loop)
        with pytest.raises(OSError, match="too many"):
            mock.__enter__()
    mock.__exit__(None, None, None)  # nothing to leave
    with mock:
        assert search(mock) == 200


def test_errors_of_the_end_are_the_callers():
    """What goes wrong as the server is left is raised where the block ends."""

    @contextlib.asynccontextmanager
    async def server():
        yield
        raise OSError("the end")

    thread = ServerThread(server())
    thread.start()
    with pytest.raises(OSError, match="the end"):
        thread.stop()


def test_interrupted_start():
    """Ctrl-C while the server starts leaves no thread."""
    before = threading.active_count()
    thread = ServerThread(MockVerifik())

    class Interrupted(threading.Event):
        interrupts = 1

        def wait(self, timeout=None):
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt
            return super().wait(timeout)

    thread._settled = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        thread.start()
    assert threading.active_count() == before


def test_use_from_many_threads():
    """Enrolling, scripting, reading and resetting disturb no search."""
    pictures = [encode(draw_face(number)) for number in range(8)]
    done = threading.Event()

    def disturb(number):
        count = 0
        while not done.is_set():
            picture = pictures[count % 8] + b"%d" % (count % 80)
            mock.enroll(f"{number}-{count % 80}", picture, collection_id="a")
            mock.script(None, Fault.status(503))
            mock.latency = (0, 0.0001) if count % 2 else 0
            mock.faults = {Fault.status(502): 0.1} if count % 3 else {}
            assert len(mock.requests) <= 50
            assert (mock.hits, mock.in_flight, mock.max_in_flight) >= (0, 0, 0)
            if count % 20 == 0:
                mock.reset()
            count += 1

    with (
        MockVerifik(max_recorded=50) as mock,
        concurrent.futures.ThreadPoolExecutor() as pool,
        requests.Session() as session,
    ):
        disturbing = [pool.submit(disturb, number) for number in range(3)]
        try:
            statuses = {search(mock, session, pictures[n % 8]) for n in range(150)}
        finally:
            done.set()
        assert [one.result() for one in disturbing] == [None] * 3
    assert statuses <= {200, 502, 503}  # a 500 would be the stand-in's own fault


CODE = """
import socket, threading
from verifik_async.testing import Fault, MockVerifik
for _ in range(3):
    with MockVerifik() as mock:
        mock.script(Fault.stall())
        _, _, port = mock.url.rpartition(":")
        with socket.create_connection(("127.0.0.1", int(port))) as sock:
            sock.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            while not mock.in_flight:
                pass
            mock.__exit__(None, None, None)
assert threading.enumerate() == [threading.main_thread()]
"""


def test_nothing_is_left():
    """No thread, no socket, no loop: a strict interpreter has nothing to say."""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", CODE],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert (run.returncode, complaints(run.stderr)) == (0, "")
