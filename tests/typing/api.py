"""Checked by mypy, never run: the public types as users meet them."""

import io
import pathlib
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from verifik_async import (
    BatchSummary,
    CallInfo,
    Charge,
    ClientStats,
    Collection,
    Liveness,
    Match,
    OperatingSystem,
    Outcome,
    Probe,
    RateLimit,
    RetryPolicy,
    SearchMode,
    SearchOptions,
    SearchResult,
    Signature,
    Timeouts,
    VerifikClient,
    VerifikError,
    errors,
    read_journal,
)
from verifik_async.images import Preparation
from verifik_async.models import ImageInput
from verifik_async.testing import AnswerRecorder, MockVerifik


class OwnLimiter:
    async def acquire(self) -> None: ...
    def pause(self, seconds: float) -> None: ...


async def a_token() -> str:
    return "token"


def clients() -> None:
    VerifikClient()
    VerifikClient("token")
    VerifikClient(lambda: "token")
    VerifikClient(a_token)
    VerifikClient(rate_limit=RateLimit(20, burst=20))
    VerifikClient(rate_limit=OwnLimiter())
    VerifikClient(
        timeouts=Timeouts(deadline=None, attempt=5),
        retry=RetryPolicy(attempts=1, statuses=frozenset({503})),
        defaults=SearchOptions(os="IOS", min_score=1, search_mode="FAST"),
    )
    VerifikClient(5)  # type: ignore[arg-type]
    SearchOptions(os=OperatingSystem.IOS, search_mode=SearchMode.FAST)
    SearchOptions(min_score="0.7")  # type: ignore[arg-type]


async def searches(client: VerifikClient) -> None:
    async with client as entered:
        assert_type(entered, VerifikClient)
    result = await client.search_active_user(b"")
    assert_type(result, SearchResult)
    for image in (bytearray(), memoryview(b""), "text", io.BytesIO()):
        await client.search_active_user(image)
    await client.search_active_user(pathlib.Path("face.jpg"), os="IOS", deadline=None)
    await client.search_active_user(
        Probe(b"", key=1, min_score=0.9), collection_id=None, extra={"a": [1]}
    )
    await client.search_active_user(5)  # type: ignore[arg-type]
    client.search_active_user(b"")  # type: ignore[unused-coroutine]
    assert_type(client.with_options(timeouts=Timeouts()), VerifikClient)
    assert_type(client.stats(), ClientStats)
    assert_type(client.stats().latency_p99_s, float | None)


async def batches(client: VerifikClient) -> None:
    pictures: list[ImageInput | Probe] = [
        b"",
        pathlib.Path("face.jpg"),
        Probe(b"", key="a"),
    ]
    async with client.search_many(
        pictures, os="IOS", ordered=True, stop_on=(errors.NotFoundError,)
    ) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
        assert_type(outcomes.summary, BatchSummary)
        outcomes.stop()
    client.search_many(later(), journal="out.jsonl", prepare=Preparation(max_side=1024))
    client.search_many(later(), journal=pathlib.Path("out.jsonl"))
    client.search_many(later(), journal=7)  # type: ignore[arg-type]
    client.search_many(later(), prepare=bytes)  # type: ignore[arg-type]
    assert_type(read_journal("out.jsonl"), Iterator[Outcome])
    client.search_many(n.to_bytes(4) for n in range(3))
    client.search_many(b"one picture")  # type: ignore[arg-type]
    assert_type(await client.search_all(pictures), list[Outcome])


async def later() -> AsyncIterator[bytes | Probe]:
    yield b""


def answers(result: SearchResult, error: VerifikError, outcome: Outcome) -> None:
    assert_type(result.id, str | None)
    assert_type(result.matches, tuple[Match, ...])
    assert_type(result.best, Match | None)
    assert_type(result.signature, Signature | None)
    assert_type(result.liveness, Liveness | None)
    assert_type(result.call, CallInfo)
    assert_type(result.matches[0].score, float | None)
    assert_type(result.matches[0].collections, tuple[str | Collection, ...])
    assert_type(error.charge, Charge)
    assert_type(outcome.state, Charge)
    assert_type(outcome.unwrap(), SearchResult)
    assert_type(BatchSummary().stopped_by, str | None)
    result.id = "changed"  # type: ignore[misc]


def caught(error: VerifikError) -> None:
    match error:
        case errors.MissingParameterError():
            assert_type(error.parameter, str | None)
        case errors.APIStatusError():
            assert_type(error.status, int)
            assert_type(error.retry_after, float | None)
        case errors.ResponseShapeError():
            assert_type(error.path, str)
        case errors.TransportError():
            assert_type(error.errno, int | None)
        case _:
            assert_type(error, VerifikError)


async def stand_in() -> None:
    async with MockVerifik() as mock:
        assert_type(mock, MockVerifik)
        assert_type(mock.url, str)
        mock.enroll("person", b"picture")
    with MockVerifik() as mock:
        assert_type(mock, MockVerifik)
        mock.replay(pathlib.Path("answers.jsonl"))
    async with AnswerRecorder("answers.jsonl") as recorder:
        assert_type(recorder, AnswerRecorder)
    with AnswerRecorder("answers.jsonl", "http://127.0.0.1:1") as recorder:
        assert_type(recorder.url, str)
