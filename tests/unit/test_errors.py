"""The tree of errors: bases, attributes, and what survives a copy."""

import copy
import inspect
import pickle

import pytest

from verifik_async import BatchSummary, errors
from verifik_async._types import Charge
from verifik_async.errors import VerifikError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, BaseException)
]

# A value for each argument that is not its default.
VALUES = {
    "message": "what went wrong",
    "charge": Charge.MAYBE_CHARGED,
    "attempts": 3,
    "last_status": 503,
    "host": "api.example",
    "port": 8443,
    "errno": 111,
    "cause": "ClientOSError",
    "status": 418,
    "code": "Teapot",
    "reason": "short_and_stout",
    "detail": "0.45",
    "request_id": "SAU01",
    "retry_after": 1.5,
    "parameter": "os",
    "path": "$.data[0].score",
    "limit": 10,
    "origin": "https://api.example",
    "target": "https://other.example",
    "summary": BatchSummary(answered=2, errors={"ServerError": 1}),
}

PARENTS = {
    "VerifikError": "Exception",
    "ConfigurationError": "VerifikError",
    "ImageError": "VerifikError",
    "ClientClosedError": "VerifikError",
    "QueueFullError": "VerifikError",
    "DeadlineExceededError": "VerifikError",
    "TransportError": "VerifikError",
    "ConnectError": "TransportError",
    "AttemptTimeoutError": "TransportError",
    "ConnectionLostError": "TransportError",
    "APIStatusError": "VerifikError",
    "InvalidRequestError": "APIStatusError",
    "MissingParameterError": "InvalidRequestError",
    "FaceRejectedError": "InvalidRequestError",
    "AuthenticationError": "APIStatusError",
    "PaymentRequiredError": "APIStatusError",
    "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError",
    "RateLimitedError": "APIStatusError",
    "ServerError": "APIStatusError",
    "ResponseShapeError": "VerifikError",
    "ResponseTooLargeError": "VerifikError",
    "RedirectError": "VerifikError",
    "BatchStoppedError": "VerifikError",
    "JournalError": "VerifikError",
    "JournalMismatchError": "JournalError",
    "JournalLockedError": "JournalError",
}
BUILT_IN = {
    "ConfigurationError": ValueError,
    "ImageError": ValueError,
    "ClientClosedError": RuntimeError,
    "DeadlineExceededError": TimeoutError,
    "AttemptTimeoutError": TimeoutError,
}
COPIES = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "oldest pickle": lambda error: pickle.loads(pickle.dumps(error, protocol=0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def arguments_of(cls):
    """Return the names of all arguments that a class takes, with its bases'."""
    names = set()
    for base in cls.__mro__:
        if issubclass(base, VerifikError) and "__init__" in vars(base):
            names |= {
                name
                for name, parameter in inspect.signature(
                    base.__init__
                ).parameters.items()
                if parameter.kind is not parameter.VAR_KEYWORD and name != "self"
            }
            if not any(
                parameter.kind is parameter.VAR_KEYWORD
                for parameter in inspect.signature(base.__init__).parameters.values()
            ):
                break
    return names


def make(cls):
    """Return an error each of whose attributes differs from its default."""
    values = {name: VALUES[name] for name in arguments_of(cls)}
    if cls is errors.BatchStoppedError:
        values["cause"] = make(errors.PaymentRequiredError)
    return cls(values.pop("message"), **values)


def facts(error):
    """Return everything that makes an error, nested errors included."""
    attributes = {
        name: facts(value) if isinstance(value, VerifikError) else value
        for name, value in vars(error).items()
    }
    return type(error), error.args, attributes, str(error), repr(error)


def test_the_tree_is_the_documented_one():
    """Each class has the parent that the documents draw, and none is missing."""
    parents = {
        cls.__name__: next(
            base.__name__
            for base in cls.__bases__
            if base is Exception or issubclass(base, VerifikError)
        )
        for cls in CLASSES
    }
    assert parents == PARENTS


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_caught_by_the_base(cls):
    """One except clause catches all errors of the package."""
    assert issubclass(cls, VerifikError)
    assert cls.__name__.endswith("Error")


@pytest.mark.parametrize("cls", CLASSES)
def test_built_in_bases(cls):
    """Errors with a built-in relative are caught as that, and no other is."""
    built_in = (ValueError, TimeoutError, RuntimeError, OSError)
    expected = BUILT_IN.get(cls.__name__)
    for base in built_in:
        wanted = expected is not None and issubclass(expected, base)
        assert issubclass(cls, base) is wanted


@pytest.mark.parametrize("cls", CLASSES)
def test_every_argument_becomes_an_attribute(cls):
    """What an error is told it tells."""
    error = make(cls)
    for name in arguments_of(cls) - {"message", "cause"}:
        assert getattr(error, name) == VALUES[name]
    assert set(vars(error)) >= arguments_of(cls) - {"message"}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("cls", CLASSES)
def test_copies_lose_nothing(cls, way):
    """Pickled, copied and deeply copied errors have all attributes and texts."""
    error = make(cls)
    twin = COPIES[way](error)
    assert twin is not error
    assert facts(twin) == facts(error)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("cls", CLASSES)
def test_copies_keep_attributes_set_later(cls, way):
    """What the machinery or the user adds to an error travels along."""
    error = cls("text")
    error.attempts = 7
    error.charge = Charge.ANSWERED
    error.add_note("seen in the night run")
    twin = COPIES[way](error)
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["seen in the night run"]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_copy_is_independent(cls):
    """Changing a copy leaves the error alone."""
    error = make(cls)
    twin = copy.copy(error)
    twin.attempts = 99
    assert error.attempts == VALUES["attempts"]


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults(cls):
    """Without facts an error still has a charge and a number of attempts."""
    error = cls("text")
    assert type(error.charge) is Charge
    assert error.attempts == 0
    assert error.args == ("text",)
    assert "text" in str(error)
    assert repr(error) == f"{cls.__name__}('text')"


@pytest.mark.parametrize("cls", CLASSES)
def test_no_argument_at_all(cls):
    """An error without a message can be shown too."""
    assert str(cls()) is not None
    assert cls.__name__ in repr(cls())


@pytest.mark.parametrize("cls", CLASSES)
def test_charge_takes_plain_strings(cls):
    """The charge is a `Charge`, given as text as well."""
    assert cls(charge="maybe_charged").charge is Charge.MAYBE_CHARGED
    with pytest.raises(ValueError, match="free"):
        cls(charge="free")


def test_text_of_a_status_error():
    """Status, code and message make the text, whichever are there."""
    full = errors.NotFoundError("gone", status=404, code="NotFound")
    assert str(full) == "404 NotFound: gone"
    assert str(errors.ServerError(status=500)) == "500: no message"


@pytest.mark.parametrize(
    "cls", [errors.AttemptTimeoutError, errors.DeadlineExceededError]
)
def test_errors_with_an_os_error_base_keep_their_message(cls):
    """The built-in base does not swallow the text."""
    error = COPIES["pickle"](cls("took too long", attempts=2))
    assert (str(error), error.attempts) == ("took too long", 2)


def test_a_missing_parameter_takes_all_facts_of_a_status():
    """The only class with open keyword arguments passes them on."""
    error = errors.MissingParameterError(
        "no", parameter="os", status=409, code="MissingParameter", request_id="r"
    )
    assert (error.status, error.parameter, error.request_id) == (409, "os", "r")
    with pytest.raises(TypeError):
        errors.MissingParameterError("no", colour="red")
