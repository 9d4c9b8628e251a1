"""The tests' own looking glasses see what they are made to see."""

import asyncio

import pytest

from verifik_async import ConfigurationError
from verifik_async._config import check_base_url
from verifik_async.models import Match, SearchResult, Thumbnail


def test_locals_of_the_package_are_looked_at(shown):
    """What stands in a frame of ours is found, what stands in others is not."""
    mine = "a-local-of-the-test"
    with pytest.raises(ConfigurationError) as caught:
        check_base_url("ftp://a-local-of-the-package", allow_insecure_http=False)
    assert "a-local-of-the-package" not in str(caught.value)
    assert "a-local-of-the-package" in shown(caught.value)
    assert mine not in shown(caught.value)


def test_chained_errors_are_looked_at(shown):
    """An error that hangs on another one is shown with it."""
    with pytest.raises(KeyError) as caught:
        try:
            int("a secret")
        except ValueError:
            raise KeyError("k")  # noqa: B904 - the chain is the point
    assert "a secret" in shown(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        Match(id=5),
        Match(id="p", score=1),
        Match(id="p", thumbnails=[]),
        Match(id="p", collections=(5,)),
        SearchResult(matches=(Match(id="p", name=5),)),
        SearchResult(matches=(Match(id="p", thumbnails=(Thumbnail(id=5),)),)),
    ],
    ids=["id", "score", "list", "item", "nested", "deep"],
)
def test_wrong_types_are_found(misfits, model):
    """A model that holds what its annotations do not say is no fit."""
    assert misfits(model) != []


def test_right_types_are_no_misfits(misfits):
    """A model as it should be has none."""
    assert misfits(SearchResult(matches=(Match(id="p", score=0.5, notes=[]),))) == []


def test_the_virtual_clock(virtual):
    """Hours pass at once, and exactly."""

    async def play():
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - began

    assert virtual(play) == 3600
