"""Who takes part, and why others do not."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence

from ._layers import LAYERS
from ._other_clients import OTHERS
from ._rivals import FLOOR, JSON, MANY, OURS, Rival

RIVALS = (OURS, MANY, FLOOR, JSON, *OTHERS)
# Not among them unless they are named.
LAYER_NAMES = [rival.name for rival in (*LAYERS, OURS)]
BY_NAME = {rival.name: rival for rival in (FLOOR, *LAYERS, *RIVALS)}


def choose(names: Sequence[str] | None) -> tuple[list[Rival], list[str]]:
    """Return who takes part and, in sentences, who is left out.

    Args:
        names: Of the rivals; None for all but the layers. The floor takes part in any
            case, for the others are measured by it.
    """
    named = [rival.name for rival in RIVALS] if names is None else names
    wanted = [
        rival for rival in BY_NAME.values() if rival.name in named or rival is FLOOR
    ]
    reasons = {rival.name: _reason_against(rival) for rival in wanted}
    return (
        [rival for rival in wanted if reasons[rival.name] is None],
        [f"{name} is left out: {why}" for name, why in reasons.items() if why],
    )


def _reason_against(rival: Rival) -> str | None:
    missing = [name for name in rival.needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if "requests" in rival.needs and (version := foreign_urllib3()) is not None:
        return (
            f"urllib3-future {version} sits in place of urllib3, which requests would "
            "silently run on; see python -m benchmarks --help"
        )
    return None


def foreign_urllib3() -> str | None:
    """Return the version of what was copied over urllib3, or None if nothing was.

    urllib3-future, which niquests brings, does so when it is installed from a wheel.
    """
    imported: str = importlib.import_module("urllib3").__version__
    genuine = importlib.metadata.version("urllib3")
    return imported if imported != genuine else None
