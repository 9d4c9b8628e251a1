"""A local stand-in of the service, for tests, demonstrations and measurements.

No test framework is imported here.
"""

from ._faults import Fault
from ._leaks import assert_no_leaks
from ._process import MockProcess
from ._recorder import AnswerRecorder
from ._records import RecordedRequest
from ._server import MockVerifik

__all__ = [
    "AnswerRecorder",
    "Fault",
    "MockProcess",
    "MockVerifik",
    "RecordedRequest",
    "assert_no_leaks",
]
