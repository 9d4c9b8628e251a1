"""Settings: what is refused, with the argument and a remedy, and what is not."""

import decimal
import enum
import fractions
import http
import json
import math
import types

import attrs
import pytest

from verifik_async import ConfigurationError, OperatingSystem, SearchMode, VerifikClient
from verifik_async._config import (
    Origin,
    RateLimit,
    RetryPolicy,
    SearchOptions,
    Timeouts,
    base_url_from_environment,
    check_base_url,
    check_callable,
    check_complete,
    check_grace,
    check_proxy,
    check_rate_limit,
    deadline_seconds,
    whole,
)

CIRCULAR = {}
CIRCULAR["self"] = CIRCULAR
DEEP = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


class Limiter:
    """What `rate_limit=` asks for."""

    async def acquire(self):
        """Give a permit."""

    def pause(self, seconds):
        """Take note."""


class Acquirer:
    """Half of a limiter."""

    async def acquire(self):
        """Give a permit."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (0.49, "not 0.49"),
        (1.01, "not 1.01"),
        (0, "not 0"),
        (-1, "not -1"),
        (70, "not 70"),
        (math.nan, "not nan"),
        (math.inf, "not inf"),
        (-math.inf, "not -inf"),
        (10**400, "not inf"),
        ("0.7", "not str"),
        (b"0.7", "not bytes"),
        (True, "not bool"),
        (False, "not bool"),
        (decimal.Decimal("0.7"), "not Decimal"),
        ([0.7], "not list"),
        (0.7 + 0j, "not complex"),
    ],
)
def test_min_score_refused(given, told):
    """A number from 0.5 to 1.0; text, bool and NaN are none."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(min_score=given)
    assert str(caught.value) == f"min_score must be a number from 0.5 to 1, {told}"


@pytest.mark.parametrize(
    "given", [1.0000001, math.nextafter(1, 2), math.nextafter(0.5, 0), 0.49999999]
)
def test_min_score_refused_by_a_hair(given):
    """The message does not claim that a good value is the bad one."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(min_score=given)
    assert not str(caught.value).endswith((" not 1", " not 0.5"))


@pytest.mark.parametrize("given", [0.5, 1.0, 1, 0.7, fractions.Fraction(3, 4), None])
def test_min_score_accepted(given):
    """The edges, whole numbers and other real numbers are in the range."""
    assert SearchOptions(min_score=given).min_score == given


@pytest.mark.parametrize("name", ["os", "search_mode"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "not ''"),
        ("LINUX", "not 'LINUX'"),
        ("android", "not 'android'"),
        ("fast", "not 'fast'"),
        (" IOS", "not ' IOS'"),
        ("IOS\n", r"not 'IOS\n'"),
        (1, "not int"),
        (True, "not bool"),
        (b"IOS", "not bytes"),
        (["IOS"], "not list"),
        (http.HTTPMethod.GET, "not "),
    ],
)
def test_words_refused(name, given, told):
    """Only the API's words; the error lists them."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(**{name: given})
    text = str(caught.value)
    words = {"os": OperatingSystem, "search_mode": SearchMode}[name]
    assert text.startswith(f"{name} must be one of ")
    assert all(f'"{word}"' in text for word in words)
    assert told in text


def test_a_long_wrong_word_is_cut():
    """A picture given for `os` does not end up in a log."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(os="Q" * 5000)
    assert len(str(caught.value)) < 150


def test_words_of_the_other_argument():
    """A mode is no operating system."""
    with pytest.raises(ConfigurationError, match="os must be"):
        SearchOptions(os=SearchMode.FAST)


@pytest.mark.parametrize("word", ["ANDROID", "IOS", "DESKTOP"])
def test_operating_systems_accepted(word):
    """Members and plain strings are the same."""
    assert SearchOptions(os=word) == SearchOptions(os=OperatingSystem(word))


@pytest.mark.parametrize("word", ["FAST", "ACCURATE"])
def test_search_modes_accepted(word):
    """Members and plain strings are the same."""
    assert SearchOptions(search_mode=word) == SearchOptions(
        search_mode=SearchMode(word)
    )


@pytest.mark.parametrize("given", [5, b"c", ["c"], 0.5, True])
def test_collection_id_refused(given):
    """Text only, and the error says which text."""
    with pytest.raises(ConfigurationError, match=r"collection_id must be text.*code"):
        SearchOptions(collection_id=given)


@pytest.mark.parametrize("given", ["", " c ", "x" * 1000, "顔"])
def test_collection_id_accepted(given):
    """Any text: it is the API's business."""
    assert SearchOptions(collection_id=given).collection_id == given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1], "a mapping of JSON fields, not list"),
        ("a", "a mapping of JSON fields, not str"),
        (5, "a mapping of JSON fields, not int"),
        ([("a", 1)], "a mapping of JSON fields, not list"),
        ({1: "a"}, "text as names"),
        ({None: "a"}, "text as names"),
        ({"a": 1, b"b": 2}, "text as names"),
        ({"image": "x"}, "not hold image: use the argument"),
        ({"os": "IOS"}, "not hold os: use the argument"),
        ({"min_score": 0.7, "collection_id": "c"}, "not hold collection_id, min_score"),
        ({"search_mode": "FAST", "ok": 1}, "not hold search_mode"),
        ({"a": math.nan}, "JSON values only"),
        ({"a": [math.inf]}, "JSON values only"),
        ({"a": {"b": -math.inf}}, "JSON values only"),
        ({"a": object()}, "JSON values only"),
        ({"a": b"x"}, "JSON values only"),
        ({"a": {1, 2}}, "JSON values only"),
        ({"a": decimal.Decimal(1)}, "JSON values only"),
        ({"a": {(1, 2): 3}}, "JSON values only"),
        ({"a": 10**5000}, "JSON values only"),
        (CIRCULAR, "JSON values only"),
        (DEEP, "JSON values only"),
    ],
)
def test_extra_refused(given, told):
    """What JSON cannot carry, and what has an argument of its own."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(extra=given)
    assert str(caught.value).startswith("extra must ")
    assert told in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, b"private", {"private"}], ids=repr)
def test_the_error_for_an_extra_shows_no_value(value):
    """Further fields may be private; no other error hangs on this one."""
    with pytest.raises(ConfigurationError) as caught:
        SearchOptions(extra={"a": [value]})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"liveness_min_score": 0.65},
        {"a": [None, True, 1, 0.5, "x", {"b": []}]},
        types.MappingProxyType({"includeCost": True}),
        {"Image": 1, "": 2},
    ],
)
def test_extra_accepted(given):
    """Any JSON under any other name."""
    expected = None if given is None else dict(given)
    assert SearchOptions(extra=given).extra == expected


def test_extra_is_a_copy():
    """Later changes of the caller's mapping do not reach the settings."""
    given = {"a": 1}
    options = SearchOptions(extra=given)
    given["image"] = "x"
    assert options.extra == {"a": 1}
    assert given == {"a": 1, "image": "x"}


def test_extra_is_a_copy_all_the_way_down():
    """Nested values of the caller's do not reach the settings either."""
    inner = [1]
    options = SearchOptions(extra={"a": inner})
    inner.append(math.nan)
    assert json.dumps(options.extra, allow_nan=False) == '{"a": [1]}'


def test_options_are_hashable_and_silent():
    """Settings go into sets; their repr keeps the extra to itself."""
    options = SearchOptions(os="IOS", extra={"private": []})
    assert isinstance(hash(options), int)
    assert "private" not in repr(options)


@pytest.mark.parametrize("missing", ["os", "min_score", "search_mode"])
def test_missing_arguments(missing):
    """The API has no defaults: what is missing is named."""
    given = {"os": "IOS", "min_score": 0.7, "search_mode": "FAST"}
    check_complete(SearchOptions(**given))
    with pytest.raises(ConfigurationError, match=rf"{missing} is required: pass it"):
        check_complete(SearchOptions(**{**given, missing: None}))


@pytest.mark.parametrize("name", ["deadline", "attempt", "connect"])
@pytest.mark.parametrize(
    "given", [0, -1, 0.0, math.nan, math.inf, 1e12, "1", True, b"x", [1], 10**400]
)
def test_timeouts_refused(name, given):
    """Positive seconds; None, and not infinity, switches one off."""
    with pytest.raises(ConfigurationError) as caught:
        Timeouts(**{name: given})
    assert str(caught.value).startswith(
        f"{name} must be a positive number of seconds, or None to switch it off, not "
    )


def test_timeouts_accepted():
    """Defaults of the contract, None and small numbers."""
    assert attrs.asdict(Timeouts()) == {
        "deadline": 60.0,
        "attempt": 30.0,
        "connect": 10.0,
    }
    assert Timeouts(deadline=None, attempt=1, connect=0.001).deadline is None


@pytest.mark.parametrize("name", ["deadline", "attempt", "connect"])
def test_timeouts_become_floats(name):
    """Other real numbers are not carried along, their formats differ."""
    value = getattr(Timeouts(**{name: fractions.Fraction(1, 2)}), name)
    assert f"{value:g}" == "0.5"


@pytest.mark.parametrize("given", [0, -1, math.nan, "5", True])
def test_deadline_refused(given):
    """The shorthand has the same rules as the setting."""
    with pytest.raises(ConfigurationError, match="deadline must be a positive number"):
        deadline_seconds(given)


def test_deadline_accepted():
    """Seconds, or None for no bound."""
    assert deadline_seconds(None) is None
    assert deadline_seconds(0.5) == 0.5


WRONG_POLICIES = [
    *[("attempts", given) for given in (0, -1, 1.0, "4", True, None, math.inf)],
    *[
        (name, given)
        for name in ("base_delay", "max_delay", "max_retry_after")
        for given in (-0.1, math.nan, math.inf, "1", True, None)
    ],
    *[("outage_limit", given) for given in (0, -1, math.nan, math.inf, "1", None)],
    *[("retry_maybe_charged", given) for given in (1, 0, "yes", None)],
    *[
        ("statuses", given)
        for given in (
            500,
            None,
            "500",
            {200},
            {399},
            {600},
            {"500"},
            {500.0},
            {True},
            [None],
        )
    ],
]


@pytest.mark.parametrize(("name", "given"), WRONG_POLICIES, ids=repr)
def test_policies_refused(name, given):
    """Each argument of a policy is checked, by its name."""
    with pytest.raises(ConfigurationError, match=f"^{name} must "):
        RetryPolicy(**{name: given})


def test_statuses_that_are_no_numbers_at_all():
    """What a set cannot hold is refused like the rest."""
    with pytest.raises(ConfigurationError, match=r"^statuses must "):
        RetryPolicy(statuses=[[500]])


def test_policy_defaults():
    """The defaults of the contract."""
    assert attrs.asdict(RetryPolicy()) == {
        "attempts": 4,
        "base_delay": 0.5,
        "max_delay": 20.0,
        "max_retry_after": 120.0,
        "retry_maybe_charged": False,
        "statuses": frozenset({500, 502, 503, 504}),
        "outage_limit": 600.0,
    }


@pytest.mark.parametrize(
    "given",
    [
        {"attempts": 1},
        {"base_delay": 0},
        {"max_delay": 0, "base_delay": 0.0},
        {"max_retry_after": 0},
        {"statuses": ()},
        {"statuses": [400, 599]},
        {"statuses": iter([503])},
        {"retry_maybe_charged": True},
    ],
    ids=repr,
)
def test_policies_accepted(given):
    """Edges, and any iterable of statuses."""
    policy = RetryPolicy(**given)
    assert isinstance(policy.statuses, frozenset)
    assert hash(policy) == hash(attrs.evolve(policy))


def test_statuses_of_the_standard_library():
    """Members of `http.HTTPStatus` are statuses."""
    policy = RetryPolicy(statuses={http.HTTPStatus.BAD_GATEWAY})
    assert policy.statuses == {502}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0,), "per_second"),
        ((-1,), "per_second"),
        ((math.nan,), "per_second"),
        ((math.inf,), "per_second"),
        (("20",), "per_second"),
        ((True,), "per_second"),
        ((None,), "per_second"),
        ((1e7,), "per_second"),
        ((20, 0), "burst"),
        ((20, 1.5), "burst"),
        ((20, True), "burst"),
        ((20, "5"), "burst"),
        ((20, None), "burst"),
    ],
    ids=repr,
)
def test_rate_limits_refused(arguments, name):
    """A positive rate and at least one permit."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        RateLimit(*arguments)


def test_rate_limits_accepted():
    """By position and by name."""
    assert RateLimit(20, 5) == RateLimit(per_second=20, burst=5)
    assert RateLimit(0.5).burst == 1


@pytest.mark.parametrize("given", [5, "20/s", object(), Acquirer(), (20, 20)])
def test_limiters_refused(given):
    """Neither a limit nor a limiter: the error tells both."""
    with pytest.raises(
        ConfigurationError, match=r"rate_limit must be RateLimit.*pause"
    ):
        check_rate_limit(given)


def test_a_limiters_class_is_refused():
    """A forgotten pair of brackets is told here, not in the first search."""
    with pytest.raises(ConfigurationError, match="rate_limit"):
        check_rate_limit(Limiter)


@pytest.mark.parametrize("given", [None, RateLimit(20), Limiter()], ids=str)
def test_limiters_accepted(given):
    """Nothing, a limit, or any object with the two methods."""
    assert check_rate_limit(given) is given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "empty or no text"),
        ("  ", "empty or no text"),
        (None, "empty or no text"),
        (5, "empty or no text"),
        (b"https://api.example", "empty or no text"),
        ("api.verifik.co", "must be an http"),
        ("//api.verifik.co", "must be an http"),
        ("ftp://api.verifik.co", "must be an http"),
        ("file:///etc/passwd", "must be an http"),
        ("https://", "must be an http"),
        ("https:///path", "must be an http"),
        ("https:api.verifik.co", "must be an http"),
        ("https://[::1", "must be an http"),
        ("https://host:99999", "must be an http"),
        ("https://host:port", "must be an http"),
        ("https://user@host", "without user"),
        ("https://user:password@host", "without user"),
        ("https://:@host", "without user"),
        ("https://@host", "without user"),
        ("https://host?a=1", "query"),
        ("https://host/path?token=secret", "query"),
        ("https://host#a", "fragment"),
        ("http://api.verifik.co", "allow_insecure_http=True"),
        ("http://10.0.0.1", "allow_insecure_http=True"),
        ("http://0.0.0.0", "allow_insecure_http=True"),
        ("http://192.168.1.1:8080", "allow_insecure_http=True"),
        ("http://[2001:db8::1]", "allow_insecure_http=True"),
        ("http://localhost.evil.example", "allow_insecure_http=True"),
        ("http://127.0.0.1.evil.example", "allow_insecure_http=True"),
        ("http://evil-localhost", "allow_insecure_http=True"),
        ("http://127.1", "allow_insecure_http=True"),
        ("HTTP://API.VERIFIK.CO", "allow_insecure_http=True"),
    ],
)
def test_base_urls_refused(given, told):
    """No http(s) URL, one that carries secrets, or one over an open wire."""
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(given, allow_insecure_http=False)
    assert str(caught.value).startswith("base_url must be ")
    assert told in str(caught.value)
    assert "password" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "https://exa mple.co",
        "https://exa\nmple.co",
        "https://exa\x00mple.co",
        "https://a..b",
        "https://.",
        "https://" + "a" * 70 + ".co",
    ],
)
def test_hosts_that_can_be_none(given):
    """What no resolver takes is told here, by the argument's name."""
    with pytest.raises(ConfigurationError, match="base_url"):
        check_base_url(given, allow_insecure_http=False)


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1",
        "http://127.0.0.1:8080",
        "http://127.0.0.2",
        "http://[::1]",
        "http://[::1]:8080",
        "http://localhost",
        "http://LOCALHOST:1",
        "HTTP://localhost",
    ],
)
def test_plain_http_to_loopback(given):
    """This machine may be talked to in the open."""
    assert (
        check_base_url(given, allow_insecure_http=False).base.lower() == given.lower()
    )


def test_plain_http_on_demand():
    """The switch that the error names does what it says, and no more."""
    origin = check_base_url("http://stand-in.example", allow_insecure_http=True)
    assert origin == Origin("http://stand-in.example", "stand-in.example", 80)
    with pytest.raises(ConfigurationError):
        check_base_url("ftp://stand-in.example", allow_insecure_http=True)


@pytest.mark.parametrize(
    ("given", "origin", "text"),
    [
        (
            "https://api.verifik.co",
            Origin("https://api.verifik.co", "api.verifik.co", 443),
            "https://api.verifik.co",
        ),
        (
            " https://api.verifik.co/// ",
            Origin("https://api.verifik.co", "api.verifik.co", 443),
            "https://api.verifik.co",
        ),
        (
            "https://proxy.example:8443/verifik/",
            Origin("https://proxy.example:8443/verifik", "proxy.example", 8443),
            "https://proxy.example:8443",
        ),
        (
            "https://[2001:db8::1]:444",
            Origin("https://[2001:db8::1]:444", "2001:db8::1", 444),
            "https://[2001:db8::1]:444",
        ),
    ],
)
def test_base_urls_accepted(given, origin, text):
    """A path is kept, slashes at its end are not; host and port are for messages."""
    found = check_base_url(given, allow_insecure_http=False)
    assert found == origin
    assert found.text == text


def test_base_url_of_the_environment(monkeypatch):
    """Argument, variable, default; an empty variable is an error, not a default."""
    assert base_url_from_environment(None) == "https://api.verifik.co"
    monkeypatch.setenv("VERIFIK_BASE_URL", "https://other.example")
    assert base_url_from_environment(None) == "https://other.example"
    assert base_url_from_environment("https://mine.example") == "https://mine.example"
    monkeypatch.setenv("VERIFIK_BASE_URL", "")
    with pytest.raises(ConfigurationError, match="base_url"):
        check_base_url(base_url_from_environment(None), allow_insecure_http=False)


class Number(enum.IntEnum):
    """A number by another name."""

    ONE = 1


@pytest.mark.parametrize("given", [0, -1, 1.0, "1", None, True, math.nan])
def test_whole_numbers_refused(given):
    """Counts are ints of at least their bound."""
    with pytest.raises(
        ConfigurationError, match=r"max_concurrency must be .*at least 1"
    ):
        whole("max_concurrency", given, 1)


def test_whole_numbers_accepted():
    """The bound itself and anything above."""
    assert whole("n", 1, 1) == 1
    assert whole("n", 10**30, 1) == 10**30
    assert whole("n", Number.ONE, 1) == 1


@pytest.mark.parametrize("given", [5, "proxy:3128", "socks5://proxy", b"http://p", ""])
def test_proxies_refused(given):
    """An http(s) URL; the error does not repeat it, it may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        check_proxy(given)
    assert str(caught.value) == (
        "proxy must be an http(s) URL, such as http://proxy:3128"
    )


def test_proxies_accepted():
    """None and a URL, with a user too."""
    assert check_proxy(None) is None
    assert check_proxy("http://user:pw@proxy:3128") == "http://user:pw@proxy:3128"


def test_callbacks():
    """Something to call, or None."""
    assert check_callable("on_attempt", None) is None
    assert check_callable("on_attempt", print) is print
    with pytest.raises(
        ConfigurationError, match="on_attempt must be callable, not int"
    ):
        check_callable("on_attempt", 5)


@pytest.mark.parametrize("given", [-1, math.nan, math.inf, "1", None, True])
def test_grace_refused(given):
    """Seconds from zero."""
    with pytest.raises(
        ConfigurationError, match=r"close_grace must be a number from 0"
    ):
        check_grace(given)


def test_grace_accepted():
    """No grace at all is a grace."""
    assert check_grace(0) == 0.0


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("base_url", ""),
        ("defaults", {"os": "IOS"}),
        ("timeouts", 5),
        ("timeouts", None),
        ("retry", 3),
        ("max_concurrency", 0),
        ("max_waiting", -1),
        ("rate_limit", 20),
        ("max_response_bytes", 0),
        ("max_image_bytes", 0),
        ("session", object()),
        ("ssl", False),
        ("ssl", "cert.pem"),
        ("proxy", "proxy"),
        ("trace_configs", [1]),
        ("on_attempt", "log"),
        ("close_grace", -1),
    ],
    ids=repr,
)
def test_arguments_of_the_client_refused(name, given):
    """Each is checked when the client is made, and named."""
    with pytest.raises(ConfigurationError, match=f"^{name} must (be|hold) "):
        VerifikClient("token", **{name: given})


@pytest.mark.parametrize("name", ["trust_env", "allow_insecure_http"])
@pytest.mark.parametrize("given", ["no", 0, None])
def test_switches_of_the_client_refused(name, given):
    """A switch is True or False: the text "no" would switch it on."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        VerifikClient("token", **{name: given})


def test_trace_configs_that_are_no_list():
    """A single number is told by the argument's name."""
    with pytest.raises(ConfigurationError, match=r"^trace_configs must hold"):
        VerifikClient("token", trace_configs=5)


def test_settings_are_frozen():
    """Nobody changes a client's settings behind its back."""
    for settings, name in (
        (SearchOptions(), "os"),
        (Timeouts(), "deadline"),
        (RetryPolicy(), "attempts"),
        (RateLimit(1), "burst"),
    ):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(settings, name, None)
