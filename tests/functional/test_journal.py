"""A batch with a journal: nothing is lost, nothing is paid twice, whatever happens."""

import asyncio
import base64
import contextlib
import enum
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest
from support import OPTIONS, TOKEN, client_of

from verifik_async import (
    BatchStoppedError,
    Charge,
    ConfigurationError,
    ImageError,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
    PaymentRequiredError,
    Probe,
    VerifikClient,
    read_journal,
)
from verifik_async._journal_file import JournalFile
from verifik_async.testing import Fault, MockVerifik


def picture(number: int, size: int = 240) -> bytes:
    """Return a picture that no other number has."""
    return random.Random(number).randbytes(size)


def probes(count: int, **own: object) -> list[Probe]:
    """Return probes with keys of their own."""
    return [Probe(picture(n), key=f"k{n}", **own) for n in range(count)]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "out.jsonl"


async def run(client: VerifikClient, source, path, **settings):
    """Return all outcomes of a batch that ends normally, and its summary."""
    async with client.search_many(source, journal=path, **settings) as batch:
        return [outcome async for outcome in batch], batch.summary


def lines(path: Path) -> list[dict]:
    """Return the lines of a journal, without its header and what is being written."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]


# -- what is kept ---------------------------------------------------------------------


async def test_a_line_is_there_before_its_outcome(client, mock, path):
    """Whoever has seen an outcome finds it in the file, come what may."""
    mock.script(Fault.status(422))
    async with client.search_many(probes(50), journal=path, concurrency=4) as batch:
        async for outcome in batch:
            kept = {line["key"]: line for line in lines(path)}
            assert kept[outcome.key]["index"] == outcome.index
            assert ("error" in kept[outcome.key]) is not outcome.ok
    assert len(lines(path)) == 50


async def test_neither_picture_nor_token_nor_name_is_kept(path, image):
    """Of a person the id, of a picture its digest."""
    async with MockVerifik(data_shape="object") as mock, client_of(mock.url) as client:
        mock.enroll("person-1", image, name="Invented Person")
        [found], _ = await run(client, [Probe(image, key="k")], path)
    assert found.unwrap().best.name == "Invented Person"
    text = path.read_bytes()
    assert b"person-1" in text
    assert b"Invented" not in text
    assert TOKEN.encode() not in text
    assert base64.b64encode(image)[:32] not in text
    [outcome] = read_journal(path)
    assert outcome.unwrap().best.id == "person-1"


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes")
async def test_others_may_not_read_it(client, path):
    """Ids of persons are nobody else's business."""
    await run(client, probes(1), path)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_it_is_brought_to_the_disk_within_half_a_second(
    client, path, monkeypatch
):
    """Whatever happens to the machine then."""
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file, sync=os.fsync: synced.append(file) or sync(file)
    )

    async def slowly():
        yield Probe(picture(1), key="a")
        await asyncio.sleep(0.8)
        yield Probe(picture(2), key="b")

    async with client.search_many(slowly(), journal=path) as batch:
        await anext(batch)
        before = len(synced)
        await asyncio.sleep(0.65)
        assert len(synced) == before + 1
        await anext(batch)
    assert len(synced) == before + 2


async def test_what_was_cut_off_on_the_wire_is_kept(mock, path):
    """Nobody hears of its answer, and it may have been charged."""
    mock.latency = 5
    async with (
        client_of(mock.url, max_concurrency=3) as client,
        client.search_many(probes(9), journal=path) as batch,
    ):
        while mock.in_flight < 3:
            await asyncio.sleep(0.01)
        assert batch.summary.failed == 0
    kept = list(read_journal(path))
    assert {outcome.key for outcome in kept} == {"k0", "k1", "k2"}
    assert {outcome.state for outcome in kept} == {Charge.MAYBE_CHARGED}
    assert {type(outcome.error) for outcome in kept} == {BatchStoppedError}


async def test_what_never_left_is_not_said_to_have_been_charged(path):
    """A batch that is left while its searches find nobody cost nothing."""
    async with (
        client_of("http://127.0.0.1:1", max_concurrency=3) as client,
        client.search_many(probes(9), journal=path),
    ):
        await asyncio.sleep(0.05)
    assert all(outcome.state is Charge.NOT_SENT for outcome in read_journal(path))


# -- going on -------------------------------------------------------------------------


async def test_a_finished_run_sends_nothing(client, mock, path):
    """All is skipped: neither sent nor yielded."""
    await run(client, probes(40), path)
    before = path.read_bytes()
    outcomes, summary = await run(client, probes(40), path)
    assert (mock.hits, outcomes) == (40, [])
    assert (summary.skipped, summary.answered, summary.failed) == (40, 0, 0)
    assert path.read_bytes() == before


async def test_what_was_not_answered_is_searched_again(client, mock, path):
    """Whatever the reason was; its position in the input is kept."""
    mock.script(*[Fault.status(422)] * 7)
    first, _ = await run(client, probes(30), path, concurrency=1)
    failed = [outcome.index for outcome in first if not outcome.ok]
    assert failed == [0, 1, 2, 3, 4, 5, 6]
    outcomes, summary = await run(client, probes(30), path)
    assert sorted(outcome.index for outcome in outcomes) == failed
    assert (summary.skipped, summary.answered, mock.hits) == (23, 7, 37)
    assert all(outcome.ok for outcome in read_journal(path))


@pytest.mark.parametrize(
    "other",
    [
        {"os": "IOS"},
        {"min_score": 0.71},
        {"search_mode": "ACCURATE"},
        {"collection_id": "c"},
        {"extra": {"liveness_min_score": 0.5}},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_other_parameters_are_refused(client, mock, path, other):
    """Its answers would be answers to another question; nothing is sent or changed."""
    await run(client, probes(3), path)
    before = path.read_bytes()
    with pytest.raises(JournalMismatchError, match="other search parameters"):
        await run(client, probes(3), path, **other)
    assert (mock.hits, path.read_bytes()) == (3, before)


async def test_settings_that_change_no_answer_may_change(client, mock, path):
    """Neither the client nor its pace is part of the question."""
    await run(client, probes(3), path, concurrency=1, extra={"a": 1, "b": 2})
    async with client_of(mock.url, max_concurrency=7) as other:
        _, summary = await run(other, probes(3), path, extra={"b": 2, "a": 1})
    assert summary.skipped == 3


async def test_another_picture_under_a_key_is_searched(client, mock, path):
    """A key names a place; what lies there may have been changed."""
    await run(client, probes(3), path)
    changed = [*probes(2), Probe(picture(99), key="k2")]
    outcomes, summary = await run(client, changed, path)
    assert [(o.key, o.index) for o in outcomes] == [("k2", 2)]
    assert (summary.skipped, mock.hits) == (2, 4)
    # What counts now is the new one.
    _, summary = await run(client, changed, path)
    assert (summary.skipped, mock.hits) == (3, 4)


async def test_parameters_of_a_probe_count(client, mock, path):
    """Those of the batch are the same, but it was another question."""
    own = [Probe(picture(1), key="k", min_score=0.8)]
    await run(client, own, path)
    _, summary = await run(client, own, path)
    assert (summary.skipped, mock.hits) == (1, 1)
    _, summary = await run(client, [Probe(picture(1), key="k")], path)
    assert (summary.skipped, mock.hits) == (0, 2)


async def test_files_are_known_by_their_paths(client, mock, path, tmp_path):
    """A path is key enough; a changed file is searched again."""
    files = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(picture(number, 2_000_000 if number == 3 else 2000))
    await run(client, files, path)
    files[1].write_bytes(picture(77))
    outcomes, summary = await run(client, files, path)
    assert [outcome.key for outcome in outcomes] == [str(files[1])]
    assert (summary.skipped, mock.hits) == (3, 5)


async def test_names_of_files_may_be_any_bytes(client, mock, path, tmp_path):
    """A name that is no UTF-8 comes back as Python spells it."""
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    await asyncio.to_thread(file.write_bytes, picture(1))
    await run(client, [file], path)
    assert [outcome.key for outcome in read_journal(path)] == [str(file)]
    _, summary = await run(client, [file], path)
    assert (summary.skipped, mock.hits) == (1, 1)


async def test_order_is_kept_around_what_is_skipped(mock, path):
    """A gap is no reason to wait."""
    mock.latency = (0.0, 0.02)
    async with client_of(mock.url) as client:
        await run(client, probes(60)[::3], path)
        outcomes, summary = await run(client, probes(60), path, ordered=True)
    assert [o.index for o in outcomes] == [n for n in range(60) if n % 3]
    assert summary.skipped == 20


async def test_skipping_costs_no_budget(client, mock, path):
    """`max_searches` is about what is sent."""
    await run(client, probes(20), path)
    outcomes, summary = await run(client, probes(30), path, max_searches=5)
    assert (len(outcomes), summary.skipped, mock.hits) == (5, 20, 25)
    assert summary.stopped_by == "max_searches"


async def test_others_have_their_turn_while_much_is_skipped(client, mock, path):
    """Thousands of skipped probes do not hold up the event loop."""
    await run(client, probes(3000), path)
    turns, drawn_at = 0, []

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noted():
        for probe in probes(3000):
            drawn_at.append(turns)
            yield probe

    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count())
        _, summary = await run(client, noted(), path, concurrency=1)
        counting.cancel()
    assert (summary.skipped, mock.hits) == (3000, 3000)
    assert drawn_at[-1] - drawn_at[0] > 2000


async def test_equal_pictures_of_a_journal_are_sent_once(client, mock, path):
    """Coalescing and the journal need the same digest, and get along."""
    same = [Probe(picture(1), key=number) for number in range(5)]
    outcomes, summary = await run(client, same, path, coalesce=True)
    assert (len(outcomes), summary.coalesced, mock.hits) == (5, 4, 1)
    _, summary = await run(client, same, path, coalesce=True)
    assert (summary.skipped, mock.hits) == (5, 1)


# -- keys -----------------------------------------------------------------------------


async def test_a_key_seen_twice_is_an_error(client, mock, path):
    """Which of the two the line would be of could not be told; the first goes on."""
    twice = [*probes(3), Probe(picture(9), key="k1")]
    outcomes, summary = await run(client, twice, path)
    [error] = [outcome.error for outcome in outcomes if not outcome.ok]
    assert isinstance(error, ConfigurationError)
    assert "key was seen before" in str(error)
    assert (summary.answered, summary.not_sent, mock.hits) == (3, 1, 3)
    # Nor does the journal forget the answer of the first.
    outcomes, summary = await run(client, twice, path)
    assert (len(outcomes), summary.skipped, mock.hits) == (1, 3, 3)


async def test_numbers_and_text_are_different_keys(client, mock, path):
    """1 is not "1"."""
    both = [Probe(picture(1), key=1), Probe(picture(2), key="1")]
    outcomes, _ = await run(client, both, path)
    assert all(outcome.ok for outcome in outcomes)
    _, summary = await run(client, both, path)
    assert (summary.skipped, mock.hits) == (2, 2)


async def test_a_probe_without_a_key_is_an_error(client, mock, path):
    """Its position is no name: the next run may have another there."""
    outcomes, _ = await run(client, [picture(1), *probes(1)], path)
    [error] = [outcome.error for outcome in outcomes if not outcome.ok]
    assert isinstance(error, ConfigurationError)
    assert "Probe(image, key=...)" in str(error)
    assert mock.hits == 1
    assert [line["key"] for line in lines(path)] == ["k0"]


# -- the file -------------------------------------------------------------------------


async def test_what_is_no_journal_is_left_alone(client, mock, path):
    """A wrong path costs nobody a file."""
    for content in (b"\xff\xd8 no line at all", b"key,score\na,1\n", b"{}\n"):
        path.write_bytes(content)
        with pytest.raises(JournalError, match="not a journal's header"):
            await run(client, probes(1), path)
        assert path.read_bytes() == content
    assert mock.hits == 0


async def test_a_damaged_journal_is_left_alone(client, mock, path):
    """Half of the answers may be paid for again only by somebody who decides it."""
    await run(client, probes(3), path)
    whole = path.read_bytes()
    damaged = whole.replace(b'"key":"k1"', b'"key:"k1"')
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match="line 3 is damaged"):
        await run(client, probes(3), path)
    assert (mock.hits, path.read_bytes()) == (3, damaged)


async def test_any_torn_tail_is_cut_off(client, path):
    """Wherever a process was killed: the lines before are good, and so are later."""
    await run(client, probes(2), path, concurrency=1)
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for cut in [0, 1, header - 1, header, *range(header + 1, len(whole), 37)]:
        path.write_bytes(whole[:cut])
        _, summary = await run(client, probes(2), path, concurrency=1)
        complete = max(0, whole[:cut].count(b"\n") - 1)
        assert (summary.skipped, summary.answered) == (complete, 2 - complete)
        assert [line["key"] for line in lines(path)] == ["k0", "k1"]


@pytest.mark.parametrize("where", ["nowhere/out.jsonl", "."])
async def test_a_file_that_cannot_be(client, mock, tmp_path, where):
    """The reason is told, and nothing is sent."""
    with pytest.raises(JournalError, match="cannot be written"):
        await run(client, probes(1), tmp_path / where)
    assert mock.hits == 0


@pytest.mark.parametrize("journal", [7, ""])
def test_what_is_no_path(client, journal):
    """Refused when it is given."""
    with pytest.raises(ConfigurationError, match="journal must be the path of a file"):
        client.search_many([], journal=journal)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
async def test_a_pipe_is_no_journal(client, path):
    """It would wait for its reader for ever."""
    os.mkfifo(path)
    async with asyncio.timeout(10):
        with pytest.raises(JournalError, match="no regular file"):
            await run(client, probes(1), path)


async def test_one_batch_at_a_time(client, mock, path):
    """In this process or another; whoever has ended leaves it free."""
    async with client.search_many(probes(3), journal=path) as batch:
        with pytest.raises(JournalLockedError, match="another batch"):
            await run(client, probes(3), path)
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BATCH, mock.url, path, "3"),
            env={"PYTHONPATH": ":".join(sys.path)},
            stderr=subprocess.PIPE,
        )
        _, err = await other.communicate()
        assert b"JournalLockedError" in err
        assert len([outcome async for outcome in batch]) == 3
    _, summary = await run(client, probes(3), path)
    assert (summary.skipped, mock.hits) == (3, 3)


async def test_an_error_of_the_source_leaves_it_free(client, path):
    """Neither a bad source nor a consumer's error keeps the lock."""

    class Bad:
        def __iter__(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(client, Bad(), path)
    with pytest.raises(ZeroDivisionError):
        async with client.search_many(probes(1), journal=path):
            raise ZeroDivisionError
    outcomes, _ = await run(client, probes(2), path)
    assert len(outcomes) == 2


async def test_a_stopped_batch_is_gone_on_with(client, mock, path):
    """What was not sent because of the credits is sent when there are some."""
    mock.script(Fault.status(402))
    with pytest.raises(BatchStoppedError) as caught:
        await run(client, probes(20), path, concurrency=2)
    assert isinstance(caught.value.cause, PaymentRequiredError)
    hits = mock.hits
    _, summary = await run(client, probes(20), path)
    assert (summary.answered + summary.skipped, mock.hits - hits) == (
        20,
        summary.answered,
    )
    assert all(outcome.ok for outcome in read_journal(path))


async def test_it_is_read_while_it_is_written(client, path):
    """A report may be made in the middle of the night."""
    async with client.search_many(probes(50), journal=path) as batch:
        async for outcome in batch:
            assert outcome.key in {kept.key for kept in read_journal(path)}


# -- what an answer survives ----------------------------------------------------------


async def test_a_picture_that_is_away_for_a_run(client, mock, path, tmp_path):
    """An answer is not forgotten because a later run could not look at its picture."""
    file = tmp_path / "face.jpg"
    file.write_bytes(picture(1))
    await run(client, [file], path)
    file.unlink()
    [outcome], _ = await run(client, [file], path)
    assert isinstance(outcome.error, ImageError)
    assert [kept.ok for kept in read_journal(path)] == [True]
    file.write_bytes(picture(1))
    _, summary = await run(client, [file], path)
    assert (summary.skipped, mock.hits) == (1, 1)


@pytest.mark.parametrize("how", ["stop", "deadline", "refused"])
async def test_a_run_that_is_stopped_forgets_no_answer(mock, path, how):
    """Whatever it did not come to stays as it was."""
    async with client_of(mock.url) as client:
        await run(client, probes(200), path)
        mock.script(*[Fault.status(402)] * 3)
        source = [*probes(3, min_score=0.9), *probes(200)[3:]]
        settings = {"deadline": 0.03} if how == "deadline" else {}
        with contextlib.suppress(BatchStoppedError):
            async with client.search_many(source, journal=path, **settings) as batch:
                if how == "stop":
                    batch.stop()
                async for _ in batch:
                    pass
        hits = mock.hits
        assert sum(outcome.ok for outcome in read_journal(path)) >= 197
        mock.script()
        async with client.search_many(probes(200), journal=path) as batch:
            searched = [outcome.key async for outcome in batch]
    assert set(searched) <= {"k0", "k1", "k2"}
    assert mock.hits - hits == len(searched)


class Place(enum.StrEnum):
    """Keys that are members of an enumeration."""

    DOOR = "door"


class Number(enum.IntEnum):
    """The same, of numbers."""

    ONE = 1


@pytest.mark.parametrize(
    "key",
    [Place.DOOR, Number.ONE, 2**64 - 1, -(2**63), "\ud800"],
    ids=["text", "number", "largest", "least", "surrogate"],
)
async def test_keys_of_any_kind_are_found_again(client, mock, path, key):
    """As text and numbers, whatever else they are."""
    await run(client, [Probe(picture(1), key=key)], path)
    _, summary = await run(client, [Probe(picture(1), key=key)], path)
    assert (summary.skipped, mock.hits) == (1, 1)
    assert [outcome.key for outcome in read_journal(path)] == [key]


@pytest.mark.parametrize("key", [2**64, -(2**63) - 1, 10**5000], ids=["+", "-", "far"])
async def test_numbers_that_json_does_not_carry(client, mock, path, key):
    """Some readers would make another number of it."""
    [outcome], _ = await run(client, [Probe(picture(1), key=key)], path)
    assert "more than 64 bits" in str(outcome.error)
    assert mock.hits == 0


async def test_opening_that_is_given_up_leaves_the_file_free(client, mock, path):
    """Whoever comes next is not told that another batch writes it."""
    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await run(client, probes(1), path)
    for _ in range(100):  # the threads come to their end
        with contextlib.suppress(JournalLockedError):
            _, summary = await run(client, probes(1), path)
            break
        await asyncio.sleep(0.02)
    assert summary.answered + summary.skipped == 1
    assert mock.hits == 1


def test_opening_that_ends_with_its_loop_leaves_the_file_free(path):
    """The loop is closed before the file is open."""

    async def give_up() -> None:
        async with (
            asyncio.timeout(0),
            client_of("http://127.0.0.1:9") as client,
            client.search_many(probes(1), journal=path),
        ):
            pass

    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            asyncio.run(give_up())
    deadline = time.monotonic() + 5
    while True:
        try:
            JournalFile(path, "another").close()
        except JournalMismatchError:
            return  # it could be locked
        except JournalLockedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


async def test_whoever_removes_it_is_noticed(client, path, mock):
    """What is written to it would be lost without a word."""
    mock.latency = 0.05
    with pytest.raises(JournalError, match="removed, or cut short"):
        async with client.search_many(
            probes(100), journal=path, concurrency=2
        ) as batch:
            async for _ in batch:
                path.unlink(missing_ok=True)
    assert batch.summary.stopped_by == "JournalError"
    assert mock.hits < 100


@pytest.mark.parametrize("where", ["prepare", "limiter"])
async def test_a_cancellation_from_within_loses_no_probe(mock, where):
    """Code of the caller's that raises CancelledError has a bug, and it comes out."""

    async def cancelled(_: bytes = b"") -> bytes:
        raise asyncio.CancelledError

    class Bad:
        acquire = staticmethod(cancelled)

        def pause(self, _: float) -> None: ...

    limiter = {"rate_limit": Bad()} if where == "limiter" else {}
    prepare = {"prepare": cancelled} if where == "prepare" else {}
    async with client_of(mock.url, **limiter) as client:
        yielded = []
        with pytest.raises(RuntimeError, match="cancelled from within"):
            async with client.search_many(probes(5), **prepare) as batch:
                async for outcome in batch:
                    yielded.append(outcome)  # noqa: PERF401 - an error ends the loop
    assert yielded
    assert all(outcome.state is Charge.NOT_SENT for outcome in yielded)
    assert mock.hits == 0


# -- crashes --------------------------------------------------------------------------

BATCH = """
import asyncio, random, resource, signal, sys
from verifik_async import Probe, SearchOptions, VerifikClient

url, path, count, limit = *sys.argv[1:4], int((sys.argv[4:] or ["0"])[0])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


async def main():
    probes = (
        Probe(random.Random(n).randbytes(240), key=f"k{n}") for n in range(int(count))
    )
    options = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
    async with VerifikClient(
        "token-of-the-tests-7f3a", base_url=url, defaults=options, max_concurrency=16
    ) as client:
        async with client.search_many(probes, journal=path) as batch:
            try:
                async for outcome in batch:
                    print("yielded", outcome.key, outcome.state, flush=True)
            finally:
                print("stopped by", batch.summary.stopped_by)


asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def batch_process(mock: MockVerifik, path: Path, count: int, limit: int = 0):
    """Run a batch in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BATCH, mock.url, path, str(count), str(limit)),
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
async def test_two_thousand_probes_two_kills_and_a_torn_line(path):
    """All answered; paid again at most what was in flight; each key there once."""
    count, slots = 2000, 16
    async with MockVerifik(latency=(0.0, 0.01)) as mock:
        for number in range(0, count, 100):
            mock.enroll(f"person-{number}", picture(number))
        for kill_at in (300, 900):
            async with batch_process(mock, path, count) as process:
                while mock.hits < kill_at:
                    await asyncio.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                await process.wait()
        with path.open("ab") as file:
            file.write(b'{"key":"k1999","index":1999,"ima')
        async with client_of(mock.url, max_concurrency=slots) as client:
            source = (Probe(picture(n), key=f"k{n}") for n in range(count))
            outcomes, summary = await run(client, source, path)
            assert summary.answered + summary.skipped == count
            assert summary.skipped >= 900 - 2 * slots
            assert mock.hits <= count + 2 * slots
            sent = mock.hits
            source = (Probe(picture(n), key=f"k{n}") for n in range(count))
            outcomes, summary = await run(client, source, path)
            assert (outcomes, summary.skipped, mock.hits) == ([], count, sent)
            with pytest.raises(JournalMismatchError):
                await run(client, probes(1), path, min_score=0.9)
    kept = list(read_journal(path))
    assert sorted(o.key for o in kept) == sorted(f"k{n}" for n in range(count))
    assert all(outcome.ok for outcome in kept)
    assert Counter(bool(o.result.matches) for o in kept)[True] == 20
    on_disk = path.read_bytes()
    assert TOKEN.encode() not in on_disk
    for number in range(0, count, 50):
        assert base64.b64encode(picture(number))[:32] not in on_disk


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of files")
async def test_a_full_disk_stops_the_batch(path):
    """What was sent is yielded, what is kept is whole, and it can be gone on with."""
    async with MockVerifik(latency=0.005) as mock:
        async with batch_process(mock, path, 2000, limit=50_000) as process:
            out, err = await process.communicate()
        assert b"JournalError: journal: it cannot be written" in err
        assert out.splitlines()[-1] == b"stopped by JournalError"
        yielded = [line.split() for line in out.splitlines() if b"yielded" in line]
        answered = [line for line in yielded if line[2] == b"answered"]
        hits = mock.hits
        # No answer is lost, although not all of them could be kept.
        assert len(answered) == hits < 500
        kept = {outcome.key for outcome in read_journal(path)}
        assert path.stat().st_size <= 50_000
        assert path.read_bytes().endswith(b"\n")
        assert kept <= {line[1].decode() for line in answered}
        assert hits - len(kept) <= 2 * 16
        async with client_of(mock.url) as client:
            _, summary = await run(client, probes(400), path)
        assert summary.skipped == len(kept)


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder that holds 64 KB, where one may be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    options = ("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    if not (mount and unmount):
        pytest.skip("has no mount command")
    if subprocess.run([mount, *options], check=False).returncode:
        pytest.skip("may not mount a file system of its own")
    yield folder
    subprocess.run([unmount, folder], check=True)


async def test_a_disk_that_is_full(small_disk):
    """In this process, as users of the library see it; and room makes it go on."""
    path, ballast = small_disk / "out.jsonl", small_disk / "ballast"
    await asyncio.to_thread(ballast.write_bytes, bytes(32_768))
    async with MockVerifik() as mock, client_of(mock.url, max_concurrency=8) as client:
        yielded = []
        async with client.search_many(probes(500), journal=path) as batch:
            with pytest.raises(JournalError, match="No space left"):
                async for outcome in batch:
                    yielded.append(outcome)  # noqa: PERF401 - an error ends the loop
        assert sum(outcome.ok for outcome in yielded) == mock.hits < 500
        kept = [outcome.key for outcome in read_journal(path)]
        assert mock.hits - len(kept) <= 8
        await asyncio.to_thread(ballast.unlink)
        _, summary = await run(client, probes(len(kept) + 20), path)
        assert (summary.skipped, summary.answered) == (len(kept), 20)


# -- pictures that are prepared -------------------------------------------------------


async def test_pictures_are_prepared_when_they_are_sent(client, mock, path, tmp_path):
    """A journal knows them as they were, and nothing is prepared in vain."""
    seen = []

    async def prepare(image: bytes) -> bytes:
        seen.append(image)
        return image[:150]

    file = tmp_path / "large.jpg"
    file.write_bytes(picture(5, 2_000_000))
    text = base64.b64encode(picture(6)).decode()
    source = [*probes(3), file, Probe(text, key="text")]
    await run(client, source, path, prepare=prepare)
    assert sorted(map(len, seen)) == [240, 240, 240, 240, 2_000_000]
    assert {request.image_bytes for request in mock.requests} == {150}
    _, summary = await run(client, source, path, prepare=prepare)
    assert (summary.skipped, mock.hits, len(seen)) == (5, 5, 5)


async def test_a_picture_that_cannot_be_prepared_is_one_outcome(client, mock):
    """The others go on; what is made of it has to be a picture."""

    async def prepare(image: bytes) -> bytes:
        if image == picture(1):
            raise ImageError("image is no picture")
        return b"" if image == picture(2) else image

    async with client.search_many(probes(4), prepare=prepare) as batch:
        failed = {o.key: str(o.error) async for o in batch if not o.ok}
    assert set(failed) == {"k1", "k2"}
    assert "empty" in failed["k2"]
    assert mock.hits == 2


def test_prepare_has_to_be_callable(client):
    """Refused when it is given."""
    with pytest.raises(ConfigurationError, match="prepare must be callable"):
        client.search_many([], prepare=b"")


def test_options_of_the_tests_and_of_the_process_are_the_same():
    """Or the journals of one would not be those of the other."""
    for name, value in attrs.asdict(OPTIONS).items():
        assert value is None or f"{name}={value!r}" in BATCH.replace('"', "'")
