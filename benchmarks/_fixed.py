"""The one answer of servers that look at no request: the person is found."""

import json

from ._job import PERSON

# As the stand-in in `verifik_async.testing` answers, but that id and time rest.
ANSWER = json.dumps(
    {
        "id": "AbCdE",
        "data": [{"id": PERSON, "score": 1.0}],
        "signature": {
            "message": "Certified by Verifik.co",
            "dateTime": "January 16, 2024 3:44 PM",
        },
    },
    separators=(",", ":"),
)
JSON_TYPE = "application/json; charset=utf-8"
