"""From what a call is given to the plan of a search: probe, call, defaults."""

from collections.abc import Mapping
from typing import Any

import attrs

from verifik_async import _config, _wire
from verifik_async._auth import TokenSource
from verifik_async._call import Plan
from verifik_async._config import RetryPolicy, SearchOptions, Timeouts
from verifik_async._core import Core
from verifik_async._images import image_source
from verifik_async._types import NOT_GIVEN, Masked, NotGiven
from verifik_async.errors import ConfigurationError
from verifik_async.models import ImageInput, Probe

# None is 'not given' for a call, but for these: there it takes a default away.
_REMOVABLE = ("collection_id", "extra")


@attrs.define
class Template:
    """What the searches of a client, or of one call, have in common.

    Attributes:
        core: Of the client.
        tokens: Where the token comes from.
        options: What is searched with, but for what a probe brings.
        timeouts: Of each search.
        retry: Of each search.
    """

    core: Core
    tokens: TokenSource
    options: SearchOptions
    timeouts: Timeouts
    retry: RetryPolicy
    _start: bytes | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        instance("defaults", self.options, SearchOptions)
        instance("timeouts", self.timeouts, Timeouts)
        instance("retry", self.retry, RetryPolicy)

    def varied(
        self,
        fields: Mapping[str, Any],
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        deadline: float | NotGiven | None = NOT_GIVEN,
    ) -> "Template":
        """Return the template of a call that says something itself, or this one.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        given = {
            name: value
            for name, value in fields.items()
            if value is not NOT_GIVEN and (value is not None or name in _REMOVABLE)
        }
        changes: dict[str, Any] = {}
        if given:
            changes["options"] = attrs.evolve(self.options, **given)
        if timeouts is not None:
            changes["timeouts"] = timeouts
        if retry is not None:
            changes["retry"] = retry
        varied = attrs.evolve(self, **changes) if changes else self
        if isinstance(deadline, NotGiven):
            return varied
        seconds = _config.deadline_seconds(deadline)
        times = attrs.evolve(varied.timeouts, deadline=seconds)
        return attrs.evolve(varied, timeouts=times)

    def plan(self, given: Masked[ImageInput | Probe]) -> Plan:
        """Return the plan of one search.

        Raises:
            ConfigurationError: a value is wrong or missing.
            ImageError: the picture is unusable.
        """
        if isinstance(given.reveal(), Probe):
            return self.plan_of(given.reveal())  # type: ignore[arg-type]  # just found
        return self._plan(given, self._own_start())  # type: ignore[arg-type]  # no Probe

    def plan_of(self, probe: Probe) -> Plan:
        """Return the plan of one search; what the probe brings goes first.

        Raises:
            ConfigurationError: a value is wrong or missing.
            ImageError: the picture is unusable.
        """
        own = {
            name: value
            for name, value in (
                ("collection_id", probe.collection_id),
                ("min_score", probe.min_score),
                ("extra", probe.extra),
            )
            if value is not None
        }
        if not own:
            return self._plan(Masked(probe.image), self._own_start())
        start = _start(attrs.evolve(self.options, **own))  # type: ignore[arg-type]  # each of its own type
        return self._plan(Masked(probe.image), start)

    def parameters_digest(self) -> str:
        """Return what tells these options from others; some may be missing."""
        return _wire.parameters_digest(_wire.body_start(self.options))

    def _own_start(self) -> bytes:
        """Return the body up to the picture, made once for all plain probes."""
        if self._start is None:
            self._start = _start(self.options)
        return self._start

    def _plan(self, image: Masked[ImageInput], start: bytes) -> Plan:
        core = self.core
        return Plan(
            source=image_source(image, core.settings.max_image_bytes),
            start=start,
            timeouts=self.timeouts,
            retry=self.retry,
            tokens=self.tokens,
            decoder=core.decoder,
            origin=core.origin,
            on_attempt=core.settings.on_attempt,
            on_search=core.settings.on_search,
        )


def _start(options: SearchOptions) -> bytes:
    """Return the body up to the picture.

    Raises:
        ConfigurationError: an option is missing.
    """
    _config.check_complete(options)
    return _wire.body_start(options)


def instance(name: str, value: Any, kind: Any) -> Any:
    """Return a settings object.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(
            f"{name} must be {kind.__name__}(...), not {type(value).__name__}"
        )
    return value
