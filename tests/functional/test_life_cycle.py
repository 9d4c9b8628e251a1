"""Loops, threads, views, sessions, closing: who owns what, and until when."""

import asyncio
import subprocess
import sys
import time

import aiohttp
import pytest
from support import OPTIONS, QUICK, TOKEN, complaints

from verifik_async import (
    Attempt,
    Charge,
    ClientClosedError,
    ConfigurationError,
    SearchOptions,
    Timeouts,
    VerifikClient,
    errors,
)
from verifik_async.testing import Fault, MockVerifik

ONE_CLIENT_MANY_LOOPS = """
import asyncio, os, threading
from verifik_async import SearchOptions, VerifikClient

client = VerifikClient(
    "t", defaults=SearchOptions(os="IOS", min_score=0.5, search_mode="FAST")
)
picture = os.urandom(500)

for _ in range(20):
    asyncio.run(client.search_active_user(picture))

async def many():
    async with asyncio.TaskGroup() as tasks:
        for _ in range(25):
            tasks.create_task(client.search_active_user(picture))

threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stats = client.stats()
asyncio.run(client.aclose())
print(stats.answered, stats.failed, stats.attempts)
"""


async def test_one_client_serves_twenty_runs_and_four_threads(mock):
    """A client at module level, loop after loop and side by side, without a warning."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", ONE_CLIENT_MANY_LOOPS),
        env={"VERIFIK_BASE_URL": mock.url, "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert complaints(err) == ""
    assert out.split() == [b"120", b"0", b"120"]
    assert mock.hits == 120


async def test_closing_twice_is_fine_and_use_afterwards_is_not(mock, image):
    """A closed client says so, and what to do."""
    client = VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS)
    async with client:
        await client.search_active_user(image)
    await client.aclose()
    with pytest.raises(ClientClosedError, match="make a new VerifikClient"):
        await client.search_active_user(image)
    with pytest.raises(ClientClosedError):
        await client.__aenter__()
    assert "closed" in repr(client)


async def test_closing_lets_running_and_queued_searches_end(image):
    """Within the grace all of them are answered."""
    async with MockVerifik(latency=0.1) as mock:
        client = VerifikClient(
            TOKEN, base_url=mock.url, defaults=OPTIONS, max_concurrency=2
        )
        async with asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(client.search_active_user(image)) for _ in range(6)
            ]
            await asyncio.sleep(0.02)
            await client.aclose()
            assert all(search.done() for search in searches)
    assert client.stats().answered == 6


async def test_closing_cuts_off_what_outlives_the_grace(image):
    """Each says how far it came: on the wire, or still in the queue."""
    async with MockVerifik() as mock:
        mock.script(Fault.stall())
        client = VerifikClient(
            TOKEN,
            base_url=mock.url,
            defaults=OPTIONS,
            max_concurrency=1,
            close_grace=0.2,
        )

        async def search() -> Charge:
            with pytest.raises(ClientClosedError) as caught:
                await client.search_active_user(image)
            return caught.value.charge

        async with asyncio.TaskGroup() as tasks:
            sent, queued = tasks.create_task(search()), tasks.create_task(search())
            while mock.hits == 0:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            await client.aclose()
            assert 0.2 <= time.monotonic() - began < 0.5
        assert sent.result() is Charge.MAYBE_CHARGED
        assert queued.result() is Charge.NOT_SENT
        assert mock.hits == 1


async def test_closing_from_one_loop_closes_the_others(image, mock):
    """Connections that belong to a thread's loop are closed there."""
    client = VerifikClient(TOKEN, base_url=mock.url, defaults=OPTIONS)
    begun, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def elsewhere() -> None:
        await client.search_active_user(image)
        loop.call_soon_threadsafe(begun.set)
        while not ended.is_set():
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
        await begun.wait()
        await client.aclose()
        ended.set()
    with pytest.raises(ClientClosedError):
        await client.search_active_user(image)


async def test_views_share_pool_and_counts_and_close_nothing(mock, image):
    """`with_options` changes what it names and nothing else."""
    async with VerifikClient(TOKEN, base_url=mock.url, max_concurrency=1) as client:
        view = client.with_options(
            defaults=SearchOptions(os="IOS", min_score=1.0, search_mode="ACCURATE"),
            timeouts=Timeouts(deadline=5.0),
        )
        async with view:
            await view.search_active_user(image)
        await view.search_active_user(image)
        assert client.stats() == view.stats()
        assert client.stats().answered == 2
        with pytest.raises(ConfigurationError, match="os is required"):
            await client.search_active_user(image)
    assert mock.connections == 1
    with pytest.raises(ClientClosedError):
        await view.search_active_user(image)


async def test_a_views_token_is_its_own(image):
    """Two tokens over one pool, each with its own requests."""
    async with (
        MockVerifik(tokens=["one", "two"]) as mock,
        VerifikClient("one", base_url=mock.url, defaults=OPTIONS) as client,
    ):
        for search in (client, client.with_options(token="Bearer two")):
            await search.search_active_user(image)
        with pytest.raises(errors.AuthenticationError):
            await client.with_options(token="three").search_active_user(image)
    assert [request.token_ok for request in mock.requests] == [True, True, False]


async def test_tokens_do_not_mix_where_requests_overlap(image):
    """Not even where each is held up between its start and its sending."""

    async def hold_up(*_: object) -> None:
        await asyncio.sleep(0.002)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(hold_up)
    async with (
        MockVerifik(tokens=["good"]) as mock,
        VerifikClient(
            "good",
            base_url=mock.url,
            defaults=OPTIONS,
            max_concurrency=8,
            trace_configs=[trace],
        ) as client,
    ):
        views = [client, client.with_options(token="bad")] * 20
        async with asyncio.TaskGroup() as tasks:
            searches = [tasks.create_task(view.search_all([image])) for view in views]
    found = [type(search.result()[0].error) for search in searches]
    assert found == [type(None), errors.AuthenticationError] * 20
    assert sum(request.token_ok for request in mock.requests) == 20


async def test_an_injected_session_is_used_and_left_open(mock, image):
    """What the caller made, the caller closes."""
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        async with VerifikClient(
            TOKEN, base_url=mock.url, defaults=OPTIONS, session=session
        ) as client:
            await client.search_active_user(image)
        assert not session.closed
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, session=session
    ) as client:
        with pytest.raises(ConfigurationError, match="session is closed"):
            await client.search_active_user(image)
    assert mock.hits == 1


async def test_an_injected_session_stays_on_its_loop(mock, image):
    """On another loop it is refused with the reason."""
    async with aiohttp.ClientSession() as session:
        client = VerifikClient(
            TOKEN, base_url=mock.url, defaults=OPTIONS, session=session
        )
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, client.search_active_user(image))
        await client.search_active_user(image)
        await client.aclose()


async def test_raise_for_status_of_an_injected_session_changes_nothing(mock, image):
    """Errors stay ours: a session's own way would show the token."""
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        VerifikClient(
            TOKEN, base_url=mock.url, defaults=OPTIONS, session=session
        ) as client,
    ):
        mock.script(Fault.status(403))
        with pytest.raises(errors.PermissionDeniedError):
            await client.search_active_user(image)


async def test_the_environment_is_read_at_first_use(mock, image, monkeypatch):
    """Token and base URL come from the environment, in the documented order."""
    client = VerifikClient(defaults=OPTIONS)
    monkeypatch.setenv("VERIFIK_BASE_URL", mock.url)
    monkeypatch.setenv("VERIFIK_CLIENT_JWT", "second")
    monkeypatch.setenv("VERIFIK_TOKEN", "first")
    mock.tokens = {"first"}
    async with client:
        assert (await client.search_active_user(image)).call.status == 200


async def test_an_empty_base_url_in_the_environment(image, monkeypatch):
    """Empty is an error, not a fall back to the real service."""
    monkeypatch.setenv("VERIFIK_BASE_URL", "")
    async with VerifikClient(TOKEN, defaults=OPTIONS) as client:
        with pytest.raises(ConfigurationError, match="base_url"):
            await client.search_active_user(image)


async def test_statistics_and_on_attempt_agree_with_the_server(mock, image):
    """Attempts + throttled is what went over the wire."""
    seen: list[Attempt] = []
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, retry=QUICK, on_attempt=seen.append
    ) as client:
        mock.script(Fault.status(500), Fault.status(429, retry_after="0.01"))
        await client.search_active_user(image)
        mock.script(Fault.status(404))
        with pytest.raises(errors.NotFoundError):
            await client.search_active_user(image)
        stats = client.stats()
    assert mock.hits == len(seen) == stats.attempts + stats.throttled == 4
    assert [record.status for record in seen] == [500, 429, 200, 404]
    assert [record.number for record in seen] == [1, 2, 3, 1]
    assert [record.throttled for record in seen] == [False, True, False, False]
    assert (stats.answered, stats.failed, stats.resent) == (1, 1, 1)
    assert stats.bytes_sent == sum(record.request_bytes for record in seen)
    assert stats.bytes_received == sum(record.response_bytes for record in seen)
    assert stats.latency_p50_s is not None
    assert stats.latency_p50_s <= stats.latency_p99_s


async def test_a_bug_in_on_attempt_costs_no_answer(mock, image, caplog):
    """It is logged by its class and ignored."""

    def broken(_: Attempt) -> None:
        raise RuntimeError("secret of the callback")

    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, on_attempt=broken
    ) as client:
        assert (await client.search_active_user(image)).call.status == 200
    assert "on_attempt raised RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_trace_configs_see_the_requests(mock, image):
    """What aiohttp offers for tracing stays open."""
    seen: list[str] = []

    async def on_end(_session, _context, parameters) -> None:
        seen.append(str(parameters.response.status))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(on_end)
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, trace_configs=[trace]
    ) as client:
        await client.search_active_user(image)
    assert seen == ["200"]


async def test_a_proxy_of_the_environment(mock, image, monkeypatch):
    """With `trust_env` the environment names the proxy, without it nobody does."""
    monkeypatch.setenv("http_proxy", mock.url)
    monkeypatch.delenv("no_proxy", raising=False)
    url = "http://localhost:1"
    async with VerifikClient(
        TOKEN, base_url=url, defaults=OPTIONS, trust_env=True, retry=QUICK
    ) as client:
        assert (await client.search_active_user(image)).call.status == 200
    async with VerifikClient(
        TOKEN, base_url=url, defaults=OPTIONS, retry=QUICK
    ) as client:
        with pytest.raises(errors.ConnectError):
            await client.search_active_user(image)
    assert mock.hits == 1


@pytest.mark.parametrize("by", ["argument", "environment"])
async def test_plain_text_leaves_the_machine_by_no_proxy(mock, image, monkeypatch, by):
    """This machine as `base_url` is no excuse: the proxy is another one."""
    proxy = "http://proxy.example:3128"
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    way = {"proxy": proxy} if by == "argument" else {"trust_env": True}
    async with VerifikClient(
        TOKEN, base_url=mock.url, defaults=OPTIONS, **way
    ) as client:
        with pytest.raises(ConfigurationError, match="proxy"):
            await client.search_active_user(image)
    async with VerifikClient(
        TOKEN,
        base_url=mock.url,
        defaults=OPTIONS,
        allow_insecure_http=True,
        retry=QUICK,
        **way,
    ) as client:
        with pytest.raises(errors.ConnectError):  # there is no such proxy
            await client.search_active_user(image)
    assert mock.hits == 0


async def test_a_proxy_is_not_for_a_session_of_the_callers(mock, image):
    """That one knows its own way."""
    async with (
        aiohttp.ClientSession() as session,
        VerifikClient(
            TOKEN,
            base_url=mock.url,
            defaults=OPTIONS,
            session=session,
            proxy="http://127.0.0.1:1",
        ) as client,
    ):
        await client.search_active_user(image)
    assert mock.hits == 1


@pytest.mark.parametrize("held", ["before", "after"])
async def test_a_loop_that_ends_while_a_generator_holds_the_client(held):
    """Both are closed at once then, whichever comes first, and neither complains."""
    script = f"""
import asyncio
from verifik_async import SearchOptions, VerifikClient
from verifik_async.testing import MockVerifik

OPTIONS = SearchOptions(os="IOS", min_score=0.7, search_mode="FAST")

async def holding(client):
    async with client:
        yield await client.search_active_user(bytes(500))

async def main():
    async with MockVerifik() as mock:
        client = VerifikClient("any", base_url=mock.url, defaults=OPTIONS)
        if {held == "after"}:
            await client.search_active_user(bytes(500))
        kept.append(holding(client))
        await anext(kept[0])

kept = []
for _ in range(20):  # which is closed first is by chance
    asyncio.run(main())
    kept.clear()
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert (process.returncode, complaints(errors)) == (0, "")
