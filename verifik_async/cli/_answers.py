"""What `search` tells of each picture: rows for people, lines for machines."""

import json
import sys
from typing import Any

import attrs

from verifik_async import SearchResult, VerifikError
from verifik_async.cli import _show
from verifik_async.cli._exit import one_line, printable


@attrs.frozen
class Answer:
    """What became of one picture; neither result nor error: it was not sent."""

    image: str
    result: SearchResult | None = None
    error: VerifikError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what machines read: ids and scores, no names of persons."""
        told: dict[str, Any] = {"path": self.image, "ok": self.result is not None}
        if self.result is not None:
            found = [{"id": m.id, "score": m.score} for m in self.result.matches]
            elapsed = round(self.result.call.elapsed_s * 1000, 1)
            told |= {"id": self.result.id, "matches": found, "elapsed_ms": elapsed}
        elif self.error is not None:
            told["error"] = type(self.error).__name__
            told |= {"message": one_line(self.error), "charge": self.error.charge}
        else:
            told |= {"error": "NotSent", "message": "not sent", "charge": "not_sent"}
        return told

    def as_row(self) -> tuple[str, ...]:
        """Return what people read."""
        image = printable(self.image)
        if self.result is None:
            why = type(self.error).__name__ if self.error else "not sent"
            return image, f"failed: {why}", "-", "-", "-"
        best = self.result.best
        return (
            image,
            printable(best.id) if best else "no match",
            _show.score(best.score) if best else "-",
            str(len(self.result.matches)),
            _show.milliseconds(self.result.call.elapsed_s),
        )


class Rows:
    """Collects answers for a table in the order in which pictures were named."""

    live = False

    def __init__(self, images: list[str]) -> None:
        self._answers = [Answer(image) for image in images]

    def add(self, index: int, answer: Answer) -> None:
        self._answers[index] = answer

    def finish(self) -> None:
        table = _show.table("image", "best match", "score", "matches", "ms", left=2)
        for answer in self._answers:
            style = None if answer.result else "red"
            table.add_row(*answer.as_row(), style=style)
        _show.console().print(table)


class JsonLines:
    """Prints each answer as soon as all before it are printed."""

    @property
    def live(self) -> bool:
        """Whether it prints where a progress bar would be in the way."""
        return sys.stdout.isatty()

    def __init__(self, images: list[str]) -> None:
        self._images = images
        self._waiting: dict[int, Answer] = {}
        self._next = 0

    def add(self, index: int, answer: Answer) -> None:
        self._waiting[index] = answer
        while self._next in self._waiting:
            self._print(self._waiting.pop(self._next))

    def finish(self) -> None:
        while self._next < len(self._images):
            unsent = Answer(self._images[self._next])
            self._print(self._waiting.pop(self._next, unsent))

    def _print(self, answer: Answer) -> None:
        sys.stdout.write(json.dumps(answer.as_json()) + "\n")
        sys.stdout.flush()
        self._next += 1
