"""Everything that can go wrong, phase by phase, comes out as it is promised."""

import pytest

from benchmarks import faults
from benchmarks._faults_rows import rows

PHASES = list(dict.fromkeys(row.phase for row in rows()))


def test_rows_are_told_apart():
    """No two of them bear the same words."""
    assert len({(row.phase, row.what) for row in rows()}) == len(rows()) > 100


@pytest.mark.parametrize("phase", PHASES)
async def test_faults(phase):
    """Error, charge and requests, of a single search and of a batch of two."""
    wanted = [row for row in rows() if row.phase == phase]
    found = await faults.play_all(wanted)
    problems = {
        row.what: problems
        for row, one in zip(wanted, found, strict=True)
        if (problems := faults.differences(row, one))
    }
    assert problems == {}
