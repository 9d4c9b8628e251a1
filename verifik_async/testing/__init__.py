"""A local stand-in of the service, for tests, demonstrations and measurements.

No test framework is imported here.
"""

from ._faults import Fault
from ._process import MockProcess
from ._records import RecordedRequest
from ._server import MockVerifik

__all__ = ["Fault", "MockProcess", "MockVerifik", "RecordedRequest"]
