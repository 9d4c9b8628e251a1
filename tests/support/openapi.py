"""The description of the API, and what it makes of requests and answers."""

import json
import pathlib

from jsonschema import Draft202012Validator

from verifik_async import testing

FILE = pathlib.Path(testing.__file__).with_name("openapi.json")
DESCRIPTION = json.loads(FILE.read_text(encoding="utf-8"))
PARTS = DESCRIPTION["components"]
PATH = "/v2/face-recognition/search-active-user"
OPERATION = DESCRIPTION["paths"][PATH]["post"]
REQUEST = OPERATION["requestBody"]
RESPONSES = OPERATION["responses"]


def problems(described: dict, body: object) -> list[str]:
    """Return what is wrong with a JSON body, by the description of its content.

    The pictures in it are left out.
    """
    schema = described["content"]["application/json"]["schema"]
    # The schemas refer to one another from the root of the document.
    validator = Draft202012Validator(schema | {"components": PARTS})
    return [
        f"{error.validator} @ {error.json_path}"
        for error in validator.iter_errors(body)
    ]
