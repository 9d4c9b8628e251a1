"""Draw docs/batch.svg: what `verifik-async batch` shows on its way and in the end.

    python docs/draw_batch.py

It runs the real command in a pseudo-terminal, against a stand-in that takes its time
and refuses some, and draws the progress as it was in the middle, then the end.
"""

import asyncio
import os
import pathlib
import random
import tempfile

from _terminal import draw, frames, recorded, settled

from verifik_async.cli._faces import alter, draw_face, encode
from verifik_async.testing import Fault, MockVerifik

COLUMNS = 100
PICTURES, FACES = 600, 20
TARGET = pathlib.Path(__file__).with_name("batch.svg")
SOME_FAILED = 3
COMMAND = ["batch", "photos", "-o", "out.jsonl", "--concurrency", "16"]
FAULTS = {Fault.status(422): 0.02, Fault.status(503): 0.02}


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        faces = [draw_face(seed) for seed in range(FACES)]
        photos = pathlib.Path("photos")
        photos.mkdir()
        rng = random.Random(1)  # noqa: S311 - pictures, not secrets
        for number in range(PICTURES):
            picture = encode(alter(rng.choice(faces), number))
            (photos / f"{number:04}.jpg").write_bytes(picture)
        written = asyncio.run(_run([encode(face) for face in faces[: FACES // 2]]))
    shown = frames(written, "window")
    middle = shown[len(shown) * 2 // 3]
    # It is wiped out at last.
    end = settled(written).replace(shown[-1], "").strip()
    text = f"$ verifik-async {' '.join(COMMAND)}\n{middle}\n\n {end}"
    draw(text, COLUMNS, "verifik-async batch", TARGET)


async def _run(enrolled: list[bytes]) -> str:
    async with MockVerifik(latency=(0.05, 0.2), rate=80, faults=FAULTS) as mock:
        for number, picture in enumerate(enrolled):
            mock.enroll(f"person-{number}", picture)
        environment = {"VERIFIK_BASE_URL": mock.url, "VERIFIK_TOKEN": "any"}
        return await asyncio.to_thread(
            recorded, COMMAND, COLUMNS, environment, code=SOME_FAILED
        )


if __name__ == "__main__":
    main()
