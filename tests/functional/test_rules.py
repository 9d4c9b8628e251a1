"""The table of `verifik_async.rules`, row by row, over real connections."""

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import attrs
import pytest
from support import QUICK, client_of

from verifik_async import Charge, Timeouts, VerifikClient, VerifikError, errors
from verifik_async.rules import RULES, Resend, Rule
from verifik_async.testing import Fault, MockVerifik

TWICE = attrs.evolve(QUICK, attempts=2)
LARGE = 8_000_000  # bytes: more than the buffers on the way hold


class Scene(NamedTuple):
    """How a row comes about.

    Attributes:
        faults: What the server does to the requests, one each; the last to all others.
        size: Bytes of the picture.
        settings: Of the client.
        arguments: Of the call.
        requests: Requests that the server sees, where a resend does not double them.
    """

    faults: tuple[Fault | None, ...] = ()
    size: int = 500
    settings: dict[str, object] = {}  # noqa: RUF012 - never changed
    arguments: dict[str, object] = {}  # noqa: RUF012
    requests: int | None = None


SHORT = {"timeouts": Timeouts(attempt=0.25)}
SCENES = {
    "an argument or a setting is wrong": [Scene(arguments={"min_score": 7})],
    "the picture is unusable": [Scene(size=0)],
    "`max_waiting` searches wait": [Scene(settings={"max_waiting": 0})],
    "no connection: refused, unreachable, TLS failed, `connect` ran out": [
        Scene(settings={"base_url": "http://127.0.0.1:{unused}"}, requests=0)
    ],
    "`attempt` ran out before the last byte of the request was written": [
        Scene((Fault.stall_before_body_read(),), LARGE, SHORT)
    ],
    "`attempt` ran out after that": [
        Scene((Fault.stall(),), settings=SHORT),
        Scene((Fault.stall_after_headers(),), settings=SHORT),
    ],
    "a kept connection had ended: no byte of an answer, within 1 s of the last byte": [
        Scene((None, Fault.drop_reused(), Fault.drop_before_headers()), requests=3)
    ],
    "the connection broke before the last byte of the request was written": [
        Scene((Fault.drop_before_body_read(),), LARGE)
    ],
    "the connection broke after that, or brought what is no HTTP answer": [
        Scene((Fault.drop_before_headers(),)),
        Scene((Fault.drop_after_headers(),)),
        Scene((Fault.garbage(),)),
    ],
    "2xx that cannot be understood": [Scene((Fault.body({"persons": 5}),))],
    "2xx larger than `max_response_bytes`": [
        Scene((Fault.body({"data": ["x" * 500]}),), settings={"max_response_bytes": 99})
    ],
    "3xx": [Scene((Fault.redirect(status),)) for status in (301, 302, 303, 307, 308)],
    "401, and 403 that says that the token has expired": [
        Scene((Fault.status(401),)),
        Scene((Fault.status(403, message="token_expired"),)),
    ],
    "402, and other statuses that say so": [
        Scene((Fault.status(402),)),
        Scene((Fault.status(500, message="insufficient_credits"),)),
    ],
    "429, and 503 with `Retry-After`": [
        Scene((Fault.status(429, retry_after="86400"),), requests=1),
        Scene((Fault.status(503, retry_after="86400"),), requests=1),
    ],
    "other 5xx": [Scene((Fault.status(501),)), Scene((Fault.status(505),))],
    "other statuses": [Scene((Fault.status(405),)), Scene((Fault.status(418),))],
}


def scenes_of(rule: Rule) -> list[Scene]:
    """Return the scenes of a row; those of a status are all alike."""
    alike = [Scene((Fault.status(status),)) for status in sorted(rule.statuses)]
    return SCENES.get(rule.fault, alike)


def rows(*resends: Resend) -> list[object]:
    """Return the rows, or those of a kind, as parameters of a test."""
    return [
        pytest.param(rule, scene, id=f"{rule.fault[:40]}-{number}")
        for rule in RULES
        if not resends or rule.resend in resends
        for number, scene in enumerate(scenes_of(rule))
    ]


def test_every_row_has_a_scene():
    """A row that nothing brings about is no row."""
    assert all(scenes_of(rule) for rule in RULES)
    assert set(SCENES) <= {rule.fault for rule in RULES}


@contextlib.asynccontextmanager
async def staged(
    scene: Scene, **more: object
) -> AsyncIterator[tuple[VerifikClient, MockVerifik]]:
    """Set a scene: a client and its server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = server.getsockname()[1]
    async with MockVerifik() as mock:
        settings = {"retry": TWICE, **scene.settings, **more}
        url = str(settings.pop("base_url", mock.url)).format(unused=unused)
        async with client_of(url, **settings) as client:
            mock.script(*scene.faults[:-1])
            if scene.faults:
                mock.faults = {fault: 1.0 for fault in scene.faults[-1:] if fault}
            if scene.faults[:1] == (None,):  # a connection that is kept
                await client.search_active_user(bytes(500))
            if "max_waiting" in scene.settings:  # nobody may send for half a minute
                mock.script(Fault.status(429, retry_after="30"))
                with pytest.raises(errors.RateLimitedError):
                    await client.search_active_user(bytes(500), deadline=1)
                mock.reset()
            yield client, mock


async def searched(client: VerifikClient, scene: Scene) -> VerifikError:
    """Search once and return the error."""
    with pytest.raises(VerifikError) as caught:
        await client.search_active_user(bytes(scene.size), **scene.arguments)
    return caught.value


@pytest.mark.parametrize(("rule", "scene"), rows())
async def test_row(rule, scene):
    """The error, its charge and the number of requests are those of the row."""
    async with staged(scene) as (client, mock):
        error = await searched(client, scene)
        assert isinstance(error, rule.error)
        assert error.charge is rule.charge
        resent = rule.resend in (Resend.YES, Resend.LISTED)
        attempts = 2 if resent else 0 if rule.charge is Charge.NOT_SENT else 1
        seen = attempts if scene.requests is None else scene.requests
        assert mock.hits == seen


@pytest.mark.parametrize(("rule", "scene"), rows(Resend.ALLOWED))
async def test_rows_that_are_resent_on_demand(rule, scene):
    """With `retry_maybe_charged=True` they are like any other."""
    policy = attrs.evolve(TWICE, retry_maybe_charged=True)
    async with staged(scene, retry=policy) as (client, mock):
        error = await searched(client, scene)
        assert (error.charge, error.attempts, mock.hits) == (rule.charge, 2, 2)


@pytest.mark.parametrize(("rule", "scene"), rows(Resend.UNLISTED))
async def test_rows_that_are_resent_when_listed(rule, scene):
    """Who lists a status in `statuses` has it resent."""
    status = scene.faults[0].reply.status
    policy = attrs.evolve(TWICE, statuses=frozenset({status}))
    async with staged(scene, retry=policy) as (client, mock):
        error = await searched(client, scene)
        assert isinstance(error, rule.error)
        assert mock.hits == 2


@pytest.mark.parametrize("fault", [Fault.status(429), Fault.status(503, retry_after=0)])
async def test_throttles_are_queued_again(fault):
    """However many there are, they are none of the attempts."""
    async with MockVerifik() as mock, client_of(mock.url, retry=TWICE) as client:
        mock.script(*[fault] * 5)
        result = await client.search_active_user(bytes(500))
    assert (result.call.throttled, result.call.attempts, mock.hits) == (5, 1, 6)


@pytest.mark.parametrize(
    "fault", [Fault.status(401), Fault.status(403, message="expired_token")]
)
async def test_another_token_is_asked_for_once(fault):
    """Then the search goes on, and is not limited by `attempts`."""
    tokens = iter(["old", "new"])
    async with (
        MockVerifik() as mock,
        VerifikClient(
            lambda: next(tokens),
            base_url=mock.url,
            retry=attrs.evolve(QUICK, attempts=1),
        ) as client,
    ):
        mock.script(fault)
        result = await client.search_active_user(
            bytes(500), os="IOS", min_score=0.5, search_mode="FAST"
        )
    assert (result.call.attempts, mock.hits) == (2, 2)
