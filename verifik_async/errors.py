"""Every error that the package raises.

    VerifikError
    ├── ConfigurationError (ValueError)      wrong argument or setting; nothing sent
    ├── ImageError (ValueError)              unusable picture; nothing sent
    ├── ClientClosedError (RuntimeError)     used after, or cut off by, aclose()
    ├── QueueFullError                       max_waiting reached; nothing sent
    ├── DeadlineExceededError (TimeoutError) the whole call outlived its deadline
    ├── TransportError
    │   ├── ConnectError                     never arrived
    │   ├── AttemptTimeoutError (TimeoutError)
    │   └── ConnectionLostError              may have arrived
    ├── APIStatusError                       the API answered with a status >= 400
    │   ├── InvalidRequestError              400 409 412 422
    │   │   ├── MissingParameterError
    │   │   └── FaceRejectedError
    │   ├── AuthenticationError              401, 403 token expired
    │   ├── PaymentRequiredError             402, or words that say so
    │   ├── PermissionDeniedError            403
    │   ├── NotFoundError                    404
    │   ├── RateLimitedError                 429
    │   └── ServerError                      5xx
    ├── ResponseShapeError                   2xx that cannot be understood
    ├── ResponseTooLargeError
    ├── RedirectError                        3xx; never followed
    ├── BatchStoppedError
    └── JournalError
        ├── JournalMismatchError
        └── JournalLockedError

All of them say in `charge` what the search may have cost and in `attempts` how
many requests went out, survive pickle and copy, and show no token, no picture
and no person's name.
"""

from typing import Any

from verifik_async._types import Charge

__all__ = [
    "APIStatusError",
    "AttemptTimeoutError",
    "AuthenticationError",
    "BatchStoppedError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "FaceRejectedError",
    "ImageError",
    "InvalidRequestError",
    "JournalError",
    "JournalLockedError",
    "JournalMismatchError",
    "MissingParameterError",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "QueueFullError",
    "RateLimitedError",
    "RedirectError",
    "ResponseShapeError",
    "ResponseTooLargeError",
    "ServerError",
    "TransportError",
    "VerifikError",
]


class VerifikError(Exception):
    """Base of all errors of this package.

    Attributes:
        charge: What the search may have cost; the worst over all its attempts.
        attempts: Requests of this search, throttled ones apart; those that found no
            connection count as well.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.NOT_SENT,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        self.charge = Charge(charge)
        self.attempts = attempts

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with args alone and lose the rest.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[VerifikError], args: tuple[Any, ...], state: dict[str, Any]
) -> VerifikError:
    error = cls.__new__(cls)
    error.args = args  # an OSError base would drop them in __new__
    error.__dict__.update(state)
    return error


class ConfigurationError(VerifikError, ValueError):
    """An argument or a setting is wrong; nothing was sent."""


class ImageError(VerifikError, ValueError):
    """The picture is empty, too large, unreadable or not base64; nothing was sent."""


class ClientClosedError(VerifikError, RuntimeError):
    """The client was used after `aclose()`, or closed while the search ran."""


class QueueFullError(VerifikError):
    """As many calls as `max_waiting` allows wait for a slot; nothing was sent."""


class DeadlineExceededError(VerifikError, TimeoutError):
    """The whole call, waiting included, outlived its deadline.

    Attributes:
        last_status: HTTP status of the last answer, or None if none came.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.NOT_SENT,
        attempts: int = 0,
        last_status: int | None = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.last_status = last_status


class TransportError(VerifikError):
    """The request or its answer was lost between here and the service.

    Attributes:
        host: Host of the service.
        port: Port of the service.
        errno: The operating system's number for the fault, or None.
        cause: Class name of what the transport reported.
    """

    # Hides the slot of an OSError base, which neither pickle nor copy would keep.
    errno: int | None = None

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.NOT_SENT,
        attempts: int = 0,
        host: str | None = None,
        port: int | None = None,
        errno: int | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.host = host
        self.port = port
        self.errno = errno
        self.cause = cause


class ConnectError(TransportError):
    """No connection could be made: the request never arrived."""


class AttemptTimeoutError(TransportError, TimeoutError):
    """One attempt outlived `Timeouts.attempt`; `charge` tells how far it came."""


class ConnectionLostError(TransportError):
    """The connection broke, or carried no HTTP answer; `charge` tells how far."""


class APIStatusError(VerifikError):
    """The API answered with a status that is no success.

    Attributes:
        status: HTTP status.
        code: The body's machine code as sent (its spelling varies), or None.
        message: The body's text, cleaned and cut at 200 characters.
        reason: The text's token in lower case (`409:liveness_failed@0.45` gives
            `liveness_failed`), or None where the text is a sentence.
        detail: What follows the token (`0.45`), or None.
        request_id: The API's id of the request, for its support, or None.
        retry_after: Seconds that the service asks to wait, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.ANSWERED,
        attempts: int = 0,
        status: int = 0,
        code: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.status = status
        self.code = code
        self.message = message
        self.reason = reason
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        return f"{self.status}{code}: {self.message or 'no message'}"


class InvalidRequestError(APIStatusError):
    """400, 409, 412 or 422: the API refused the request; sending it again is vain."""


class MissingParameterError(InvalidRequestError):
    """Code `MissingParameter`: a field is missing or out of range.

    Attributes:
        parameter: Name of the field, or None where the text names none.
    """

    def __init__(
        self, message: str = "", *, parameter: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.parameter = parameter


class FaceRejectedError(InvalidRequestError):
    """The picture was refused; `reason` says why, `no_face_detected` for one."""


class AuthenticationError(APIStatusError):
    """401, or 403 that says that the token has expired."""


class PaymentRequiredError(APIStatusError):
    """402, or another refusal that says that the credits are used up."""


class PermissionDeniedError(APIStatusError):
    """403: the token may not do this."""


class NotFoundError(APIStatusError):
    """404: the route, the collection or the person does not exist."""


class RateLimitedError(APIStatusError):
    """429, or a wait longer than `RetryPolicy.max_retry_after`."""


class ServerError(APIStatusError):
    """5xx: the service failed."""


class ResponseShapeError(VerifikError):
    """A 2xx answer that cannot be understood. Never shows a value of it.

    Attributes:
        path: Where in the answer, `$.data[0].score` for one.
        status: HTTP status.
        request_id: The API's id of the request, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.ANSWERED,
        attempts: int = 0,
        path: str = "$",
        status: int = 200,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.path = path
        self.status = status
        self.request_id = request_id


class ResponseTooLargeError(VerifikError):
    """The answer, inflated, is larger than `max_response_bytes`.

    Attributes:
        status: HTTP status.
        limit: The limit, in bytes.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.ANSWERED,
        attempts: int = 0,
        status: int = 200,
        limit: int = 0,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.status = status
        self.limit = limit


class RedirectError(VerifikError):
    """The service answered with a redirect, which is never followed.

    Attributes:
        status: HTTP status, 3xx.
        origin: Scheme, host and port that were asked.
        target: Scheme, host and port that the answer points to, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.ANSWERED,
        attempts: int = 0,
        status: int = 302,
        origin: str = "",
        target: str | None = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.status = status
        self.origin = origin
        self.target = target


class BatchStoppedError(VerifikError):
    """A batch was stopped by an error that would have met every probe.

    Attributes:
        cause: The error that stopped it.
        summary: The batch's `BatchSummary` at that moment.
    """

    def __init__(
        self,
        message: str = "",
        *,
        charge: Charge = Charge.NOT_SENT,
        attempts: int = 0,
        cause: VerifikError | None = None,
        summary: Any = None,
    ) -> None:
        super().__init__(message, charge=charge, attempts=attempts)
        self.cause = cause
        self.summary = summary


class JournalError(VerifikError):
    """The journal cannot be written or read."""


class JournalMismatchError(JournalError):
    """The journal was written with other search parameters."""


class JournalLockedError(JournalError):
    """Another process writes the journal."""
