"""Write the table of `verifik_async.rules` into `docs/retries.md`.

`python docs/write_rules.py` writes it; a test compares.
"""

import pathlib

from verifik_async.rules import RULES

PAGE = pathlib.Path(__file__).with_name("retries.md")
BEGIN = "<!-- made by docs/write_rules.py -->\n"
END = "<!-- end -->\n"


def table() -> str:
    """Return the rules as a table in Markdown."""
    head = "| what happened | error | charge | sent again |\n|---|---|---|---|\n"
    return head + "".join(
        f"| {rule.fault} | `{rule.error.__name__}` | {rule.charge} | {rule.resend} |\n"
        for rule in RULES
    )


def written(page: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
