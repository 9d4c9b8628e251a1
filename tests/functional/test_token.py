"""The token over its life: asked once, renewed once, never in vain."""

import asyncio
import gc
import threading

import pytest
from support import OPTIONS, QUICK

from verifik_async import (
    AuthenticationError,
    Charge,
    ConfigurationError,
    VerifikClient,
)
from verifik_async.testing import Fault, MockVerifik


def client_of(mock: MockVerifik, token: object) -> VerifikClient:
    return VerifikClient(token, base_url=mock.url, defaults=OPTIONS, retry=QUICK)


async def test_a_callable_is_asked_once(mock, image):
    """Its answer is kept; a plain one runs in a thread, for it may block."""
    threads: list[str] = []

    def ask() -> str:
        threads.append(threading.current_thread().name)
        return "Bearer good"

    mock.tokens = {"good"}
    async with client_of(mock, ask) as client, asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(client.search_active_user(image))
    assert len(threads) == 1
    assert threads[0] != threading.main_thread().name


@pytest.mark.parametrize("fault", ["401", "403 token_expired", "403 expired_token"])
async def test_an_expired_token_is_renewed_once_for_all_who_wait(fault, mock, image):
    """Twenty searches meet the expiry together: one renewal, none fails."""
    asked: list[int] = []

    async def ask() -> str:
        asked.append(1)
        await asyncio.sleep(0.05)
        return f"token-{len(asked)}"

    status, _, message = fault.partition(" ")
    async with client_of(mock, ask) as client:
        await client.search_active_user(image)
        body = {"message": message or "Authentication required"}
        mock.script(*[Fault.body(body, status=int(status))] * 20)
        async with asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(client.search_active_user(image)) for _ in range(20)
            ]
        assert {search.result().call.attempts for search in searches} == {2}
    assert len(asked) == 2
    assert mock.hits == 1 + 20 + 20


async def test_the_renewal_is_no_attempt_of_the_policy(mock, image):
    """Four attempts stay four, the renewal apart."""
    tokens = iter(["old", "new"])
    mock.expired_tokens = {"old"}
    async with client_of(mock, lambda: next(tokens)) as client:
        mock.script(None, *[Fault.status(500)] * 3)
        result = await client.search_active_user(image)
    assert result.call.attempts == mock.hits == 5


async def test_the_same_token_again_is_an_error_at_once(mock, image):
    """Nothing is sent a second time with what was just refused."""
    mock.tokens = {"other"}
    async with client_of(mock, lambda: "same") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.search_active_user(image)
    assert mock.hits == 1
    assert caught.value.charge is Charge.ANSWERED


async def test_a_second_refusal_ends_the_search(mock, image):
    """A token service that hands out bad tokens is not asked for ever."""
    count = iter(range(100))
    mock.tokens = {"other"}
    async with client_of(mock, lambda: f"bad-{next(count)}") as client:
        with pytest.raises(AuthenticationError):
            await client.search_active_user(image)
    assert mock.hits == 2


async def test_an_unfit_renewed_token_hides_no_charge(mock, image):
    """The search that it ends was answered, and may have been charged before."""
    tokens = iter(["old", "not fit\n!"])
    mock.expired_tokens = {"old"}
    async with client_of(mock, lambda: next(tokens)) as client:
        mock.script(Fault.status(504))
        with pytest.raises(ConfigurationError, match="token") as caught:
            await client.search_active_user(image)
    assert caught.value.charge is Charge.MAYBE_CHARGED
    assert caught.value.attempts == mock.hits == 2


async def test_a_fixed_token_is_not_sent_again(mock, image):
    """There is no other: 401 is final."""
    mock.tokens = {"other"}
    async with client_of(mock, "mine") as client:
        with pytest.raises(AuthenticationError):
            await client.search_active_user(image)
        assert mock.hits == 1


async def test_a_broken_callable_surfaces_as_itself(mock, image):
    """The caller's bug is the caller's exception; nothing was sent."""

    def ask() -> str:
        raise LookupError("no vault")

    async with client_of(mock, ask) as client:
        with pytest.raises(LookupError, match="no vault"):
            await client.search_active_user(image)
    assert mock.hits == 0


async def test_a_callable_that_hangs_is_bounded_by_the_deadline(mock, image):
    """The deadline is for the whole call, the token included."""

    async def ask() -> str:
        await asyncio.sleep(60)
        return "late"

    async with client_of(mock, ask) as client:
        with pytest.raises(TimeoutError):
            await client.search_active_user(image, deadline=0.2)
    assert mock.hits == 0


async def test_an_error_that_comes_after_one_has_given_up(mock, image):
    """It is the other's; nothing is complained of for the one that is gone."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context)
    )
    gone = asyncio.Event()

    async def ask() -> str:
        await gone.wait()
        raise LookupError("no vault")

    async with client_of(mock, ask) as client, asyncio.TaskGroup() as tasks:
        other = tasks.create_task(_error_of(client.search_active_user(image)))
        with pytest.raises(TimeoutError):
            await client.search_active_user(image, deadline=0.1)
        gone.set()
    assert isinstance(other.result(), LookupError)
    del other
    gc.collect()
    assert complaints == []


async def _error_of(search) -> Exception:
    with pytest.raises(LookupError) as caught:
        await search
    return caught.value


async def test_who_waits_for_a_slot_sends_the_token_of_the_moment(image):
    """Not the one that was good when it came: it has been renewed meanwhile."""
    tokens = iter(["old", "new"])
    async with (
        MockVerifik(latency=0.005, tokens=["new"]) as mock,
        VerifikClient(
            lambda: next(tokens), base_url=mock.url, defaults=OPTIONS, max_concurrency=4
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(60):
            tasks.create_task(client.search_active_user(image))
    assert client.stats().answered == 60
    assert mock.hits <= 60 + 4
