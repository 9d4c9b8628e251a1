"""The token: what is taken, where from, and one renewal for all who wait."""

import asyncio
import functools
import threading

import pytest

from verifik_async import ConfigurationError, VerifikClient
from verifik_async._auth import TokenSource, check_token
from verifik_async._types import Masked

SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


def source(given):
    """Return the source of a token."""
    return TokenSource(Masked(given))


async def text(given):
    """Return the text of a source's token."""
    return (await source(given).get()).reveal()


async def settle():
    """Let everybody do what can be done without waiting."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        f"Bearer {SECRET}",
        f"bearer {SECRET}",
        f"BEARER  {SECRET}",
        f" \tBearer \t {SECRET}\t ",
        f"  {SECRET} ",
    ],
)
async def test_the_scheme_is_stripped(given):
    """With or without the scheme, and the spaces around: the same token."""
    assert await text(given) == SECRET
    assert await text(lambda: given) == SECRET


@pytest.mark.parametrize(
    "given", ["x", "Bearer", "a+b/c==", "!~", "bearerless", "JWT x y"]
)
async def test_opaque_tokens(given):
    """A token need not be a JWT, and `Bearer` alone is none."""
    if given == "Bearer":
        with pytest.raises(ConfigurationError, match="is empty"):
            source(given)
    else:
        assert await text(given) == given


REFUSED = [
    ("", "is empty"),
    (" ", "is empty"),
    ("Bearer ", "is empty"),
    (f"{SECRET}\n", "holds line breaks"),
    (f"{SECRET}\r\nX-Evil: 1", "holds line breaks"),
    (f"Bearer\n{SECRET}", "holds line breaks"),
    (f"{SECRET}\t{SECRET}", "control characters"),
    (f"{SECRET}\x00", "control characters"),
    (f"{SECRET}\x7f", "control characters"),
    (f"{SECRET}ä", "than ASCII"),
    (f"{SECRET}\u2028", "than ASCII"),
    (f"\ufeff{SECRET}", "than ASCII"),
    (f"{SECRET}\ud800", "than ASCII"),
]


@pytest.mark.parametrize(("given", "told"), REFUSED)
def test_refused_texts(given, told, shown):
    """What can't stand in a header is refused, and not shown."""
    with pytest.raises(ConfigurationError) as caught:
        source(given)
    assert str(caught.value).startswith("token ")
    assert told in str(caught.value)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(("given", "told"), REFUSED)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_refused_answers_of_a_callable(given, told, kind, shown):
    """A callable's answer has to be as fit, and is not shown either."""

    async def answer():
        return given

    made = source(answer if kind == "async" else lambda: given)
    with pytest.raises(ConfigurationError) as caught:
        await made.get()
    assert str(caught.value).startswith("token callable's answer ")
    assert told in str(caught.value)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("given", [5, b"token", ["token"], 0.5, True], ids=repr)
def test_tokens_of_other_types(given):
    """Text or something to call; the error names the type."""
    with pytest.raises(ConfigurationError, match=f"not {type(given).__name__}"):
        source(given)


@pytest.mark.parametrize("given", [None, 5, b"token", ["token"]], ids=repr)
async def test_answers_of_other_types(given):
    """What a callable gives must be text."""
    with pytest.raises(ConfigurationError, match=f"not {type(given).__name__}"):
        await source(lambda: given).get()


# -- environment -----------------------------------------------------------------


async def test_the_environment_is_read_at_first_use(monkeypatch):
    """A client may be made before the variable is set."""
    made = source(None)
    monkeypatch.setenv("VERIFIK_TOKEN", "later")
    assert (await made.get()).reveal() == "later"
    monkeypatch.setenv("VERIFIK_TOKEN", "changed")
    assert (await made.get()).reveal() == "later"


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({"VERIFIK_TOKEN": "one"}, "one"),
        ({"VERIFIK_CLIENT_JWT": "two"}, "two"),
        ({"VERIFIK_TOKEN": "one", "VERIFIK_CLIENT_JWT": "two"}, "one"),
        ({"VERIFIK_TOKEN": "Bearer one"}, "one"),
        ({"VERIFIK_TOKEN": "", "VERIFIK_CLIENT_JWT": "two"}, "two"),
    ],
)
async def test_order_of_the_variables(monkeypatch, variables, token):
    """VERIFIK_TOKEN, then VERIFIK_CLIENT_JWT."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert await text(None) == token


async def test_an_argument_goes_before_the_environment(monkeypatch):
    """What the caller passes counts."""
    monkeypatch.setenv("VERIFIK_TOKEN", "one")
    assert await text("mine") == "mine"
    assert await text(lambda: "asked") == "asked"


async def test_no_token_at_all():
    """The error names both variables."""
    with pytest.raises(ConfigurationError) as caught:
        await source(None).get()
    assert str(caught.value) == (
        "token is required: pass it or set VERIFIK_TOKEN or VERIFIK_CLIENT_JWT"
    )


@pytest.mark.parametrize("name", ["VERIFIK_TOKEN", "VERIFIK_CLIENT_JWT"])
async def test_an_unfit_variable(monkeypatch, name, shown):
    """The error names the variable and not its value."""
    monkeypatch.setenv(name, f"{SECRET}\n")
    with pytest.raises(ConfigurationError, match=f"token of {name} holds") as caught:
        await source(None).get()
    assert SECRET not in shown(caught.value)


# -- callables -------------------------------------------------------------------


async def test_a_sync_callable_runs_in_a_thread():
    """It may block, on a file or a network of its own."""
    threads = []

    def ask():
        threads.append(threading.current_thread())
        return "token"

    assert await text(ask) == "token"
    assert threads != [threading.main_thread()]


async def test_an_async_callable_runs_on_the_loop():
    """It may use what belongs to the loop."""
    loops = []

    async def ask():
        loops.append(asyncio.get_running_loop())
        return "token"

    assert await text(ask) == "token"
    assert loops == [asyncio.get_running_loop()]


class Asker:
    """An object to call, whose answer has to be awaited."""

    async def __call__(self):
        return "token"


class Wrapped:
    """An awaitable that is no coroutine."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "token"


async def ask_with(word):
    """Answer with what was bound before."""
    return word


@pytest.mark.parametrize(
    "ask",
    [
        Asker(),
        Wrapped,
        functools.partial(ask_with, "token"),
        lambda: ask_with("token"),
        functools.partial(str, "token"),
        Asker().__call__,
    ],
    ids=["object", "awaitable", "partial", "lambda", "sync partial", "method"],
)
async def test_everything_that_can_be_called(ask):
    """A str or an awaitable of one, whatever gives it."""
    assert await text(ask) == "token"


async def test_a_callable_is_called_once():
    """Its answer is kept."""
    calls = []

    def ask():
        calls.append(1)
        return "token"

    made = source(ask)
    assert made.ready is None
    first = await made.get()
    assert await made.get() is first
    assert made.ready is first
    assert len(calls) == 1


def test_what_can_be_renewed():
    """Only a callable can give another token."""
    assert source(lambda: "x").renewable
    assert not source("x").renewable
    assert not source(None).renewable
    assert source("x").ready.reveal() == "x"


async def test_renewal_asks_again():
    """The rejected token is not given out any more."""
    tokens = iter(["one", "two", "three"])

    async def ask():
        return next(tokens)

    made = source(ask)
    one = await made.get()
    two = await made.renew(one)
    assert (one.reveal(), two.reveal()) == ("one", "two")
    assert await made.get() is two


async def test_a_late_rejection_of_an_old_token_asks_nobody():
    """Searches that were on their way with the old token share one renewal."""
    tokens = iter(["one", "two"])

    async def ask():
        return next(tokens)

    made = source(ask)
    one = await made.get()
    two = await made.renew(one)
    assert await made.renew(one) is two
    assert next(tokens, None) is None


async def test_the_same_token_back():
    """The caller of renew() can tell, and later ones are not kept waiting."""
    calls = []

    async def ask():
        calls.append(1)
        return "same"

    made = source(ask)
    first = await made.get()
    again = await made.renew(first)
    assert again.reveal() == first.reveal()
    assert (await made.renew(first)).reveal() == "same"
    assert len(calls) == 2


# -- all who wait ----------------------------------------------------------------


async def test_one_call_for_many_tasks():
    """Whoever comes while it is asked for waits for that answer."""
    calls, gate = [], asyncio.Event()

    async def ask():
        calls.append(1)
        await gate.wait()
        return "token"

    made = source(ask)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(made.get()) for _ in range(50)]
        await settle()
        gate.set()
    assert len(calls) == 1
    assert len({id(task.result()) for task in waiting}) == 1


async def test_one_renewal_for_many_tasks():
    """A hundred refusals ask once."""
    calls = []

    async def ask():
        calls.append(1)
        await asyncio.sleep(0)
        return f"token-{len(calls)}"

    made = source(ask)
    old = await made.get()
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(made.renew(old)) for _ in range(100)]
    assert {task.result().reveal() for task in waiting} == {"token-2"}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_call_for_two_threads(kind):
    """Event loops in two threads share one answer."""
    calls, begun, go = [], threading.Event(), threading.Event()

    def ask():
        calls.append(1)
        begun.set()
        assert go.wait(5)
        return "token"

    async def ask_async():
        return await asyncio.to_thread(ask)

    made = source(ask if kind == "sync" else ask_async)
    found = []

    def search():
        found.append(asyncio.run(made.get()).reveal())

    threads = [threading.Thread(target=search) for _ in range(4)]
    threads[0].start()
    assert begun.wait(5)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(5)
    assert found == ["token"] * 4
    assert len(calls) == 1


async def test_a_failure_is_shared_and_not_kept():
    """Whoever waited gets the same error; the next one asks again."""
    calls, gate = [], asyncio.Event()

    async def ask():
        calls.append(1)
        await gate.wait()
        if len(calls) == 1:
            raise LookupError("no vault")
        return "token"

    made = source(ask)
    async with asyncio.TaskGroup() as tasks:
        waiting = [
            tasks.create_task(caught_from(made.get(), LookupError)) for _ in range(5)
        ]
        await settle()
        gate.set()
    assert len({id(task.result()) for task in waiting}) == 1
    assert len(calls) == 1
    assert (await made.get()).reveal() == "token"


async def caught_from(work, kind):
    """Return the error that something ends in."""
    with pytest.raises(kind) as caught:
        await work
    return caught.value


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_errors_of_a_callable_come_out_as_they_are(kind):
    """They are the caller's own."""
    mine = LookupError("no vault")

    def ask():
        raise mine

    async def ask_async():
        raise mine

    found = await caught_from(
        source(ask if kind == "sync" else ask_async).get(), LookupError
    )
    assert found is mine


async def test_a_callable_at_its_end():
    """The next() of an exhausted iterator is an error, not a wait without end."""
    made = source(iter(()).__next__)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with pytest.raises(RuntimeError):
        async with asyncio.timeout(0.2):
            await made.get()


async def test_a_cancelled_asker_takes_nothing_from_the_others():
    """The asking goes on for those who still wait, and is not done twice."""
    calls = []
    gate = asyncio.Event()

    async def ask():
        calls.append(1)
        await gate.wait()
        return "token"

    made = source(ask)
    async with asyncio.TaskGroup() as tasks:
        asker = tasks.create_task(made.get())
        await settle()
        waiting = [tasks.create_task(made.get()) for _ in range(3)]
        await settle()
        asker.cancel()
        await settle()
        gate.set()
    assert asker.cancelled()
    assert [task.result().reveal() for task in waiting] == ["token"] * 3
    assert len(calls) == 1


async def test_an_answer_that_nobody_waits_for_is_asked_for_anew():
    """A callable that hangs does not hang whoever comes after its waiters."""
    calls = []

    async def ask():
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "token"

    made = source(ask)
    for _ in range(2):
        async with asyncio.TaskGroup() as tasks:
            asker = tasks.create_task(made.get())
            await settle()
            asker.cancel()
        await settle()
    assert (await made.get()).reveal() == "token"
    assert len(calls) == 2


async def test_a_cancelled_waiter_disturbs_nobody():
    """Who gives up neither cancels the asking nor the others."""
    gate = asyncio.Event()

    async def ask():
        await gate.wait()
        return "token"

    made = source(ask)
    async with asyncio.TaskGroup() as tasks:
        asker = tasks.create_task(made.get())
        await settle()
        doomed = tasks.create_task(made.get())
        other = tasks.create_task(made.get())
        await settle()
        doomed.cancel()
        await settle()
        gate.set()
    assert doomed.cancelled()
    assert asker.result() is other.result()


# -- secrets ---------------------------------------------------------------------


async def test_reprs_show_no_token():
    """Source, token and client can be logged."""
    made = source(SECRET)
    client = VerifikClient(SECRET)
    view = client.with_options(token=SECRET)
    for thing in (made, await made.get(), client, view, vars(made), vars(client)):
        assert SECRET not in repr(thing)


@pytest.mark.parametrize("wrong", [f"{SECRET}\n", f"{SECRET}\x00"])
def test_the_client_shows_no_token_that_it_refuses(wrong, shown):
    """No frame of the package holds the raw text."""
    with pytest.raises(ConfigurationError) as caught:
        VerifikClient(wrong)
    assert SECRET not in shown(caught.value)
    client = VerifikClient("fit")
    with pytest.raises(ConfigurationError) as caught:
        client.with_options(token=wrong)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"base_url": ""}, {"retry": 5}, {"max_concurrency": 0}], ids=repr
)
def test_the_client_shows_no_token_for_other_faults(wrong, shown):
    """Whatever is refused, the token beside it stays out of the traceback."""
    with pytest.raises(ConfigurationError) as caught:
        VerifikClient(SECRET, **wrong)
    assert SECRET not in shown(caught.value)


def test_check_token_names_its_source():
    """Where the unfit text came from is told, the text is not."""
    with pytest.raises(ConfigurationError, match=r"^token of X is empty: pass the JWT"):
        check_token(Masked(""), "token of X")
