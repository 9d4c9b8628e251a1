"""Data sets on a Dask cluster of two worker processes."""

import asyncio
import contextlib
import csv
import functools
import json
import os
import pickle
import random
import signal
import sys

import pytest
from support import OPTIONS, QUICK, TOKEN
from support.limiter import Noted

from verifik_async import (
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    JournalMismatchError,
    PaymentRequiredError,
)
from verifik_async.testing import Fault, MockVerifik

distributed = pytest.importorskip(
    "distributed", reason='needs the extra dask: pip install "verifik-async[dask]"'
)
pytest.importorskip("fsspec", reason="fsspec is missing: pip install fsspec")
pa = pytest.importorskip("pyarrow", reason="pyarrow is missing: pip install pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="pip install pyarrow")

from verifik_async.integrations import dask as ours  # noqa: E402
from verifik_async.integrations.dask import search_dataset  # noqa: E402

PATIENCE = 60


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    """Workers are children of this process: they have its environment."""
    monkeypatch.setenv("VERIFIK_TOKEN", TOKEN)


@pytest.fixture
def photos(tmp_path):
    """A folder of 60 pictures, some of them in folders below."""
    for number in range(60):
        path = tmp_path / "photos" / f"{number % 3}" / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def picture(number):
    return random.Random(number).randbytes(3000)


@contextlib.asynccontextmanager
async def cluster_of(workers=2, threads=2):
    """A cluster of processes, and a client of it."""
    async with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            dashboard_address=":0",
            asynchronous=True,
        ) as cluster,
        distributed.Client(cluster, asynchronous=True) as dask,
    ):
        yield dask


@pytest.fixture
async def dask():
    async with cluster_of() as dask:
        yield dask


@pytest.fixture
def search(dask, mock, photos, out):
    """Search the pictures, with a few settings that are right for tests."""

    async def search(source=photos, target=out, **settings):
        known = {"defaults": OPTIONS, "retry": QUICK, "base_url": mock.url}
        known |= {"part_size": 8, "max_concurrency": 4}
        async with asyncio.timeout(PATIENCE):
            return await search_dataset(dask, source, target, **known | settings)

    return search


def rows_of(out):
    return pq.read_table(out / "parts").to_pylist()


def assert_whole(rows, images=60):
    """Each picture is there once, in order, and was answered."""
    assert [row["index"] for row in rows] == [*range(images)]
    assert len({row["key"] for row in rows}) == images
    assert {row["error"] for row in rows} == {None}


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# -- a run -----------------------------------------------------------------------------


async def test_a_folder_is_searched(search, mock, photos, out):
    """Each picture once, a file for each part, counts for the caller, no more after."""
    mock.enroll("person-7", picture(7))
    told = []
    totals = await search(on_progress=told.append)
    assert (totals.parts, totals.written, totals.skipped) == (8, 8, 0)
    assert (totals.images, totals.answered, totals.failed) == (60, 60, 0)
    assert totals.attempts == mock.hits == 60
    assert totals.request_bytes == sum(r["request_bytes"] for r in rows_of(out))
    assert [total.written for total in told] == [*range(1, 9)]
    assert told[-1] == totals
    rows = rows_of(out)
    assert_whole(rows)
    [found] = [row for row in rows if row["matches"]]
    assert found["key"] == "1/007.jpg"
    assert found["path"] == str(photos / "1" / "007.jpg")
    assert found["found"] == [{"id": "person-7", "score": 1.0}]
    assert (found["best_id"], found["best_score"]) == ("person-7", 1.0)
    assert mock.connections <= 2 * 4
    assert mock.max_in_flight <= 2 * 4
    assert [*(out / "journals").iterdir()] == []
    again = await search()
    assert (again.written, again.skipped, mock.hits) == (0, 8, 60)


async def test_bad_pictures_are_rows(search, mock, photos, out, tmp_path):
    """One that is missing, empty, too large or no file is a row, the others go on."""
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "large.jpg").write_bytes(bytes(10_000))
    (tmp_path / "folder.jpg").mkdir()
    bad = ["missing.jpg", "empty.jpg", "large.jpg", "folder.jpg", "nosuch://x/y.jpg"]
    good = [*map(str, sorted(photos.glob("*/*.jpg")))]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["path", *bad, *good]))
    totals = await search(listed, max_image_bytes=5000)
    assert (totals.images, totals.answered, totals.failed) == (65, 60, 5)
    assert (totals.not_sent, totals.errors) == (5, {"ImageError": 5})
    assert mock.hits == 60
    rows = rows_of(out)
    assert [row["key"] for row in rows] == [*bad, *good]
    assert [row["error"] for row in rows] == ["ImageError"] * 5 + [None] * 60
    assert rows[0]["state"] == "not_sent"
    assert rows[0]["matches"] is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_a_list_is_searched(kind, search, mock, photos, out):
    """Paths are relative to it; each row may have a key, collection and score."""
    mock.enroll("person-1", picture(1), collection_id="visitors")
    rows = [
        {"path": "0/000.jpg", "key": "first", "collection_id": None, "min_score": 0.9},
        {"path": "1/001.jpg", "key": None, "collection_id": "visitors"},
        {"path": str(photos / "2" / "002.jpg"), "key": "last"},
    ]
    listed = photos / f"list.{kind}"
    if kind == "csv":
        with listed.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), listed)
    totals = await search(listed)
    assert (totals.images, totals.answered) == (3, 3)
    assert [row["key"] for row in rows_of(out)] == ["first", "1/001.jpg", "last"]
    assert [row["matches"] for row in rows_of(out)] == [0, 1, 0]
    seen = {(request.min_score, request.collection_id) for request in mock.requests}
    assert seen == {(0.9, None), (0.7, "visitors"), (0.7, None)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,min_score\na.jpg,0.2\n", "row 1: min_score must be"),
        ("path,min_score\na.jpg,\nb.jpg,high\n", "row 2: min_score is no number"),
        ("key\na\n", "row 1: path is missing"),
        ("path\n", "names no picture"),
    ],
)
async def test_a_wrong_list_is_refused(text, problem, search, mock, tmp_path):
    """The row is named, nothing is sent, and the folder can be used all the same."""
    listed = tmp_path / "list.csv"
    listed.write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        await search(listed)
    with pytest.raises(ConfigurationError, match="must be a folder, or a file"):
        await search(tmp_path / "nothing.csv")
    assert mock.hits == 0
    assert (await search()).answered == 60


def test_a_client_that_waits(photos, out):
    """In a script without a loop: `dask.sync`."""
    with (
        MockVerifik() as mock,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as dask,
    ):
        settings = {"defaults": OPTIONS, "base_url": mock.url}
        totals = dask.sync(search_dataset, dask, photos, out, **settings)
        with pytest.raises(ConfigurationError, match=r"dask\.sync"):
            asyncio.run(search_dataset(dask, photos, out, **settings))
    assert totals.answered == 60
    assert_whole(rows_of(out))


# -- going on --------------------------------------------------------------------------


async def test_other_questions_are_refused(search, mock, photos, out):
    """Other parameters, part sizes and pictures are another data set."""
    await search()
    other = OPTIONS.__class__(os="IOS", min_score=0.7, search_mode="FAST")
    with pytest.raises(JournalMismatchError, match="other search parameters"):
        await search(defaults=other)
    with pytest.raises(JournalMismatchError, match="another part_size"):
        await search(part_size=9)
    (photos / "new.jpg").write_bytes(picture(100))
    with pytest.raises(JournalMismatchError, match="another manifest"):
        await search()
    assert (await search(None)).skipped == 8
    (out / "run.json").write_text("{}")
    with pytest.raises(JournalError, match="damaged"):
        await search()
    (out / "run.json").unlink()
    with pytest.raises(JournalError, match="has parts and no run"):
        await search()
    with pytest.raises(ConfigurationError, match="nothing was begun"):
        await search(None, out / "new")
    assert mock.hits == 60


@pytest.mark.parametrize("settings", [{"part_size": 0}, {"window": True}, {"rate": 0}])
async def test_wrong_settings_are_refused(settings, search, mock, out):
    """Before anything is written or sent."""
    with pytest.raises(ConfigurationError):
        await search(**settings)
    assert not out.exists()
    assert mock.hits == 0


@pytest.mark.parametrize("journals", [True, False])
async def test_a_worker_is_killed(journals, search, dask, mock, out):
    """All is answered; again is searched what was on the wire, or else the part."""
    mock.latency = 0.05
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(search(journals=journals))
        await until(lambda: mock.hits >= 20)
        pids = await dask.run(os.getpid)
        os.kill(min(pids.values()), signal.SIGKILL)
    assert running.result().images == 60
    assert_whole(rows_of(out))
    # Two parts at a time in a worker, which share its four slots.
    assert 60 <= mock.hits <= 60 + (4 if journals else 2 * 8)


DRIVER = """
import asyncio, sys
from distributed import Client
from verifik_async import SearchOptions
from verifik_async.integrations.dask import search_dataset

async def main(scheduler, photos, out, url):
    options = SearchOptions(os="DESKTOP", min_score=0.7, search_mode="FAST")
    async with Client(scheduler, asynchronous=True) as dask:
        await search_dataset(dask, photos, out, defaults=options, base_url=url,
                             part_size=8, max_concurrency=4)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_driver_is_killed(search, dask, mock, photos, out):
    """The workers give up what they did for it; the next one goes on."""
    mock.latency = 0.05
    scheduler = dask.scheduler.address
    driver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DRIVER),
        *(scheduler, str(photos), str(out), mock.url),
    )
    try:
        await until(lambda: mock.hits >= 24)
    finally:
        driver.send_signal(signal.SIGKILL)
        await driver.wait()
    assert not (out / "parts").exists() or len(rows_of(out)) < 60
    totals = await search()
    assert totals.written == 8 - totals.skipped
    assert_whole(rows_of(out))
    assert 60 <= mock.hits <= 60 + 2 * 4


async def test_what_would_meet_all_stops_all(search, mock, out):
    """No credits: the workers stop, the error counts, and the next run goes on."""
    mock.latency = 0.02
    mock.script(*[None] * 30)
    mock.faults = {Fault.status(402): 1.0}
    with pytest.raises(BatchStoppedError, match="PaymentRequiredError") as caught:
        await search()
    error = caught.value
    assert isinstance(error.cause, PaymentRequiredError)
    assert error.summary.stopped_by == "PaymentRequiredError"
    assert error.summary.answered <= 30
    assert mock.hits <= 30 + 2 * 4 * 2
    mock.faults = {}
    await search()
    assert_whole(rows_of(out))
    assert sum(request.status == 200 for request in mock.requests) == 60


async def test_no_token_stops_all(mock, photos, out, monkeypatch):
    """Workers that were started without one say so."""
    monkeypatch.delenv("VERIFIK_TOKEN")
    async with cluster_of() as dask:
        with pytest.raises(BatchStoppedError, match="VERIFIK_TOKEN"):
            await search_dataset(dask, photos, out, defaults=OPTIONS, base_url=mock.url)
    assert mock.hits == 0


async def test_a_limiter_for_all(search, tmp_path, out):
    """Each worker makes its own; when it fails the part is tried again."""
    notes = tmp_path / "notes"
    totals = await search(limiter=functools.partial(Noted, notes, broken=1))
    assert totals.answered == 60
    assert_whole(rows_of(out))
    assert notes.read_text().count("a") >= 61
    assert notes.read_text().endswith("cc")
    with pytest.raises(ConfigurationError, match="exclude each other"):
        await search(limiter=functools.partial(Noted, notes), rate=5)


async def test_a_fault_that_stays_ends_the_run(search, tmp_path):
    """After some tries; its error comes out."""
    limiter = functools.partial(Noted, tmp_path / "notes", broken=1000)
    with pytest.raises(OSError, match="broken, for a test"):
        await search(limiter=limiter, retries=1)


async def test_the_rate_is_shared_out(search):
    """All workers together keep to it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await search(rate=40)
    assert loop.time() - began >= 0.9 * (60 - 2) / 40


# -- secrets ---------------------------------------------------------------------------


class Wire:
    """Passes on what is said to a scheduler, and keeps it."""

    def __init__(self, port):
        self.said = bytearray()
        self._port = port

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._tasks = await asyncio.TaskGroup().__aenter__()
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._tasks.__aexit__(None, None, None)

    async def _serve(self, reader, writer):
        up, down = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks.create_task(self._pass_on(reader, down))
        self._tasks.create_task(self._pass_on(up, writer))

    async def _pass_on(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.said += data
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_the_scheduler_hears_no_secret(mock, photos, out):
    """No token, no name of a picture and no row."""
    mock.enroll("person-7", picture(7))
    async with (
        distributed.Scheduler(
            host="127.0.0.1", port=0, dashboard_address=":0"
        ) as scheduler,
        Wire(scheduler.port) as wire,
        distributed.Nanny(wire.address, nthreads=1) as _,
        distributed.Nanny(wire.address, nthreads=1) as _,
        distributed.Client(wire.address, asynchronous=True) as dask,
    ):
        settings = {"defaults": OPTIONS, "base_url": mock.url, "part_size": 8}
        totals = await search_dataset(dask, photos, out, **settings)
    assert totals.answered == 60
    assert str(out).encode() in wire.said
    for secret in (TOKEN, "007.jpg", "person-7"):
        assert secret.encode() not in wire.said


async def test_the_plugin_holds_no_secret(search, dask, monkeypatch):
    """What is pickled for the workers has no token."""
    pickled = []
    register = dask.register_plugin
    monkeypatch.setattr(
        dask,
        "register_plugin",
        lambda plugin: pickled.append(pickle.dumps(plugin)) or register(plugin),
    )
    await search()
    [plugin] = pickled
    assert TOKEN.encode() not in plugin
    assert isinstance(pickle.loads(plugin), ours.WorkerPlugin)


# -- object stores ---------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a stand-in of S3."""
    pytest.importorskip("s3fs", reason="s3fs is missing: pip install s3fs")
    server = pytest.importorskip(
        "moto.server", reason='pip install "moto[s3]" flask flask-cors'
    )
    fsspec = pytest.importorskip("fsspec")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("pictures")
        yield system
    finally:
        running.stop()


def test_an_object_store(bucket):
    """Pictures, lists and parts are there; a bad picture is a row there as well."""
    for number in range(20):
        bucket.pipe_file(f"pictures/in/{number:02}.jpg", picture(number))
    bucket.pipe_file("pictures/in/empty.jpg", b"")
    asyncio.run(_search_bucket(bucket))


async def _search_bucket(bucket):
    settings = {"defaults": OPTIONS, "part_size": 8}
    async with MockVerifik() as mock, cluster_of() as dask:
        settings["base_url"] = mock.url
        arguments = ("s3://pictures/in", "s3://pictures/out")
        totals = await search_dataset(dask, *arguments, **settings)
        assert (totals.images, totals.answered, totals.not_sent) == (21, 20, 1)
        assert mock.hits == 20
        again = await search_dataset(dask, *arguments, **settings)
        assert (again.skipped, mock.hits) == (3, 20)
        await asyncio.to_thread(_check_bucket, bucket)
        bad = "s3://pictures/list.csv"
        totals = await search_dataset(dask, bad, "s3://pictures/other", **settings)
        assert (totals.answered, totals.errors) == (1, {"ImageError": 1})


def _check_bucket(bucket):
    bucket.invalidate_cache()
    names = [path.rpartition("/")[2] for path in bucket.ls("pictures/out/parts")]
    assert names == [f"part-{number:08}.parquet" for number in range(3)]
    tables = [pq.read_table(bucket.open(p)) for p in bucket.ls("pictures/out/parts")]
    rows = pa.concat_tables(tables).to_pylist()
    assert [row["key"] for row in rows] == [f"{n:02}.jpg" for n in range(20)] + [
        "empty.jpg"
    ]
    assert rows[0]["path"] == "s3://pictures/in/00.jpg"
    assert json.loads(bucket.cat_file("pictures/out/run.json"))["images"] == 21
    bucket.pipe_file("pictures/list.csv", b"path\nin/01.jpg\nin/none.jpg\n")
