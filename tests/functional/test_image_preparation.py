"""Pictures made fit in threads: the loop goes on, and nothing is left behind."""

import asyncio
import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from verifik_async import ClientClosedError, ConfigurationError, ImageError, images
from verifik_async._types import Masked
from verifik_async.images import Preparation, prepare_image


def encoded(kind):
    """Return a picture of noise as a file."""
    file = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(file, kind)
    return file.getvalue()


class Workshop:
    """Takes the place of what threads do, and lets the test decide when it is done."""

    def __init__(self):
        self.begun = 0
        self.threads = set()
        self._open = threading.Event()
        self._one = threading.Lock()

    def __call__(self, image: Masked[bytes], _form: object) -> bytes:
        with self._one:
            self.begun += 1
            self.threads.add(threading.current_thread().name)
        assert self._open.wait(10)
        return image.reveal()

    def open(self):
        """Let all work that was begun, or is begun later, be finished."""
        self._open.set()


@pytest.fixture
def workshop(monkeypatch):
    workshop = Workshop()
    monkeypatch.setattr(images, "_prepare", workshop)
    yield workshop
    workshop.open()


async def until(condition):
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def settle():
    """Give threads and loop a while to do what they should not."""
    await asyncio.sleep(0.05)


async def test_pictures_are_made_fit():
    """As by `prepare_image`, with the same arguments."""
    picture = encoded("PNG")
    async with Preparation(max_side=20, quality=50, workers=2) as preparation:
        result = await preparation(picture)
    assert result == prepare_image(picture, max_side=20, quality=50)


async def test_the_loop_goes_on_meanwhile():
    """Others have their turn while a large picture is decoded."""
    file = io.BytesIO()
    Image.new("RGB", (2000, 2000), "teal").save(file, "PNG", compress_level=1)
    turns = 0
    async with Preparation(max_side=200) as preparation, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(preparation(file.getvalue()))
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
    assert turns > 20


async def test_counts():
    """Pictures that were changed, and the bytes of all that went through."""
    large, fit = encoded("BMP"), encoded("JPEG")
    async with Preparation() as preparation:
        changed = await preparation(large)
        assert await preparation(fit) is fit
        with pytest.raises(ImageError):
            await preparation(large[:100])
    assert preparation.changed == 1
    assert preparation.bytes_before == len(large) + len(fit)
    assert preparation.bytes_after == len(changed) + len(fit)
    assert preparation.saved_bytes == len(large) - len(changed) > 0


async def test_no_more_pictures_at_once_than_workers(workshop):
    """The rest waits its turn, and has it."""
    async with (
        Preparation(workers=2) as preparation,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(1, 7):
            tasks.create_task(preparation(bytes([number])))
        await until(lambda: workshop.begun == 2)
        await settle()
        assert workshop.begun == 2
        workshop.open()
    assert workshop.begun == 6
    assert len(workshop.threads) == 2
    assert all(name.startswith("verifik-images") for name in workshop.threads)


async def test_a_cancelled_task_leaves_at_once(workshop):
    """The thread finishes in vain; what was not begun never is."""
    async with Preparation(workers=1) as preparation:
        async with asyncio.TaskGroup() as tasks:
            begun = tasks.create_task(preparation(b"1"))
            waiting = tasks.create_task(preparation(b"2"))
            await until(lambda: workshop.begun == 1)
            begun.cancel()
            waiting.cancel()
        assert begun.cancelled()
        assert waiting.cancelled()
        workshop.open()
    assert workshop.begun == 1
    assert preparation.bytes_before == 0


async def test_leaving_waits_for_what_is_on_its_way(workshop):
    """Without holding up the loop, and refusing what comes later."""
    preparation = Preparation(workers=1)
    async with asyncio.TaskGroup() as tasks:
        on_their_way = [tasks.create_task(preparation(b"%d" % n)) for n in range(2)]
        await until(lambda: workshop.begun == 1)
        leaving = tasks.create_task(preparation.aclose())
        await settle()
        assert not leaving.done()
        with pytest.raises(ClientClosedError, match="make a new Preparation"):
            await preparation(b"late")
        workshop.open()
    assert [task.result() for task in on_their_way] == [b"0", b"1"]
    assert leaving.done()


async def test_whoever_stops_waiting_has_closed_it_all_the_same(workshop):
    """A cancelled `aclose` leaves no threads that live on, even if it had to wait."""
    preparation = Preparation(workers=1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, workshop, Masked(b""), None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(preparation(b"1"))
        await until(lambda: workshop.begun == 2)
        leaving = tasks.create_task(preparation.aclose())
        await settle()
        leaving.cancel()
        await settle()
        assert leaving.cancelled()
        workshop.open()
    await busy
    await until(lambda: not any("verifik-images" in name for name in names()))


def names():
    """Return the names of all threads that live."""
    return [thread.name for thread in threading.enumerate()]


async def test_without_closing_nothing_lives_on():
    """Threads end with the preparation that nobody holds any more."""
    preparation = Preparation(workers=1)
    await preparation(encoded("BMP"))
    assert any("verifik-images" in name for name in names())
    del preparation
    await until(lambda: not any("verifik-images" in name for name in names()))


async def test_closing_twice_does_no_harm():
    """And entering what is closed does not open it."""
    async with Preparation() as preparation:
        pass
    await preparation.aclose()
    async with preparation:
        with pytest.raises(ClientClosedError):
            await preparation(encoded("BMP"))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_side", 0, "at least 1"),
        ("quality", 96, "at most 95"),
        ("workers", 0, "at least 1"),
        ("workers", True, "whole number"),
    ],
)
def test_arguments_are_checked_at_once(name, value, allowed):
    """Not with the first picture."""
    with pytest.raises(ConfigurationError, match=f"{name} must be .*{allowed}"):
        Preparation(**{name: value})


async def test_a_batch_sends_what_was_made_fit(mock, client):
    """Handed to `search_many`; an unusable picture is an outcome among others."""
    pictures = [encoded("BMP"), b"no picture", encoded("GIF")]
    async with (
        Preparation(max_side=20) as preparation,
        client.search_many(pictures, prepare=preparation, ordered=True) as outcomes,
    ):
        errors = [outcome.error async for outcome in outcomes]
    assert [type(error) for error in errors] == [type(None), ImageError, type(None)]
    fit = [prepare_image(picture, max_side=20) for picture in pictures[::2]]
    assert {request.image_sha256 for request in mock.requests} == {
        hashlib.sha256(picture).hexdigest() for picture in fit
    }
    assert preparation.changed == 2
