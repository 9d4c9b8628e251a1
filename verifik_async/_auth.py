"""The token: where it comes from, and how all searches share one renewal."""

import asyncio
import concurrent.futures
import inspect
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from verifik_async._config import TOKEN_VARIABLES
from verifik_async._types import Masked
from verifik_async.errors import ConfigurationError

TokenInput: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
Token: TypeAlias = Masked[str]

_PRINTABLE = range(0x20, 0x7F)


def _problem(token: Token) -> str | None:
    """Return what is wrong with a token; never raises, for its frame shows it."""
    text = token.reveal()
    if not isinstance(text, str):
        return f"must be text, not {type(text).__name__}"
    if not text:
        return "is empty"
    if any(ord(char) not in _PRINTABLE for char in text):
        return "holds line breaks, control characters or others than ASCII"
    return None


def _strip(token: Token) -> Token:
    text = token.reveal()
    if not isinstance(text, str):
        return token
    scheme, _, rest = text.strip(" \t").partition(" ")
    return Masked((rest if scheme.lower() == "bearer" else text).strip(" \t"))


def check_token(given: Masked[str], source: str) -> Token:
    """Return the token without scheme.

    Raises:
        ConfigurationError: it can't stand in a header.
    """
    token = _strip(given)
    if problem := _problem(token):
        raise ConfigurationError(f"{source} {problem}: pass the JWT and nothing else")
    return token


def _from_environment() -> Token:
    for name in TOKEN_VARIABLES:
        if os.environ.get(name):
            return check_token(Masked(os.environ[name]), f"token of {name}")
    raise ConfigurationError(
        f"token is required: pass it or set {' or '.join(TOKEN_VARIABLES)}"
    )


def _answer(ask: Callable[[], Any]) -> Masked[Any]:
    try:
        return Masked(ask())
    except StopIteration:
        # A future can't carry it: asyncio would drop it, and the search would hang.
        raise RuntimeError("the token callable raised StopIteration") from None


def _seen(answer: asyncio.Future[None]) -> None:
    """Look at an error that asyncio would complain of where a waiter has given up."""
    if not answer.cancelled():
        answer.exception()


class TokenSource:
    """The token of a client, for all its event loops and threads.

    A callable is asked once; only a renewal asks it again, and whoever comes
    meanwhile, in any thread, waits for that one answer.
    """

    def __init__(self, given: Masked[TokenInput]) -> None:
        """Check a token that is there already.

        Raises:
            ConfigurationError: it is no text and no callable, or no fit text.
        """
        self._lock = threading.Lock()
        self._asking: concurrent.futures.Future[None] | None = None
        self._task: concurrent.futures.Future[None] | None = None
        self._waiting = 0
        self._token: Token | None = None
        self._ask: Masked[Callable[[], str | Awaitable[str]]] | None = None
        if callable(given.reveal()):
            self._ask = given  # type: ignore[assignment]  # just found callable
        elif given.reveal() is not None:
            self._token = check_token(given, "token")  # type: ignore[arg-type]  # it checks

    @property
    def renewable(self) -> bool:
        """Whether another token can be asked for."""
        return self._ask is not None

    @property
    def ready(self) -> Token | None:
        """The token, if it is known already."""
        return self._token

    async def get(self) -> Token:
        """Return the token.

        Raises:
            ConfigurationError: there is none, or no fit one.
        """
        if self._token is None and self._ask is None:
            self._token = _from_environment()
        return self._token or await self.renew(None)

    async def renew(self, rejected: Token | None) -> Token:
        """Return a token other than `rejected`, or the same if there is no other.

        Errors of the caller's callable come out as they are.

        Raises:
            ConfigurationError: the callable gave something that is no token.
        """
        while True:
            with self._lock:
                if self._token is not None and self._token is not rejected:
                    return self._token
                asking = self._asking
                if asking is None:
                    asking = self._asking = concurrent.futures.Future()
                    # A task of its own: whoever asked first may give up before the
                    # answer comes, and others, on other loops too, wait for it.
                    self._task = asyncio.run_coroutine_threadsafe(
                        self._ask_for_all(asking), asyncio.get_running_loop()
                    )
                self._waiting += 1
            answer = asyncio.wrap_future(asking)
            answer.add_done_callback(_seen)
            try:
                await asyncio.shield(answer)
            finally:
                self._leave(asking)

    def _leave(self, asking: concurrent.futures.Future[None]) -> None:
        """Count a waiter out; an answer that nobody waits for is not asked for."""
        with self._lock:
            self._waiting -= 1
            forsaken = not self._waiting and not asking.done()
        if forsaken and self._task is not None:
            self._task.cancel()
            self._settle(asking, None)

    async def _ask_for_all(self, asking: concurrent.futures.Future[None]) -> None:
        try:
            self._token = check_token(await self._call(), "token callable's answer")
        except Exception as error:  # noqa: BLE001 - the caller's: all who wait get it
            self._settle(asking, error)
        except BaseException:  # the loop ends: one of the others asks
            self._settle(asking, None)
            raise
        else:
            self._settle(asking, None)

    def _settle(
        self, asking: concurrent.futures.Future[None], error: Exception | None
    ) -> None:
        with self._lock:
            if self._asking is not asking:
                return
            self._asking = None
        if error is None:
            asking.set_result(None)
        else:
            asking.set_exception(error)

    async def _call(self) -> Masked[str]:
        assert self._ask is not None  # noqa: S101 - asked for only where there is one
        ask = self._ask.reveal()
        if inspect.iscoroutinefunction(ask):
            return Masked(await ask())
        # It may block, on a file or a network of its own.
        answer: Masked[Any] = await asyncio.to_thread(_answer, ask)
        if inspect.isawaitable(answer.reveal()):
            return Masked(await answer.reveal())
        return answer
