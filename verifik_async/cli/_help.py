"""What the commands say of themselves; Markdown, with examples to copy."""

OVERVIEW = """Search faces with Verifik from the terminal.

No token yet? This shows it all on this machine:

    verifik-async demo

With a token:

    export VERIFIK_TOKEN=...
    verifik-async search photo.jpg
    verifik-async batch photos/ -o out.jsonl

Exit codes: 0 all answered, 2 wrong usage (nothing sent), 3 some failed, 4 stopped.
"""

COMMANDS = {
    "search": """Search the enrolled persons for the face in each picture.

The token comes from VERIFIK_TOKEN, VERIFIK_CLIENT_JWT or a file, never from an
option: other users of a machine can read those. Every picture is one search and may
be charged. The API itself has no defaults; those below are this command's.

For example:

    verifik-async search anna.jpg
    verifik-async search --min-score 0.9 --search-mode ACCURATE photos/*.jpg
    verifik-async search --json photos/*.jpg > answers.jsonl
    curl -s https://example.com/anna.jpg | verifik-async search -

Exit codes: 0 all answered, 2 wrong usage (nothing sent), 3 some failed.
""",
    "batch": """Search many pictures, and keep what became of each in a journal.

Every picture is one search and may be charged. Whatever ends a run, --resume
goes on with its journal, and searches no picture again that was answered. Ctrl-C
finishes what is on the way; twice stops at once.

For example:

    verifik-async batch photos/ -o out.jsonl --dry-run --price 0.03
    verifik-async batch photos/ -o out.jsonl --concurrency 16 --rate 20
    verifik-async batch photos/ -o out.jsonl --resume --csv out.csv
    find /archive -name '*.heic' | verifik-async batch - -o out.jsonl --max-side 1280

Exit codes: 0 all answered, 2 wrong usage (nothing sent), 3 some failed, 4 stopped
before the end.
""",
    "demo": """Enrol faces, search many at once, count: no token needed.

Cartoon faces are drawn and enrolled with a stand-in of the API, which runs as a
process of its own; then the client searches for altered copies and for strangers,
over sockets as with the real API. All figures are measured in the run.

For example:

    verifik-async demo
    verifik-async demo --probes 5000 --concurrency 128
    verifik-async demo --json
""",
    "mock": """Run a local stand-in of the face search API until Ctrl-C.

It speaks the documented API on this machine only, takes any token and charges
nothing. It is no face recogniser: it knows the pictures that were enrolled, and
copies of them that are recoded, scaled or cropped a little.

For example:

    verifik-async mock --enroll faces/
    verifik-async mock --port 8080 --latency 0.02,0.08 --rate 50
""",
    "report": """Make one HTML page of a batch for a person who reviews its matches.

It holds all that it needs and fetches nothing: counts, plots, a threshold to move, the
failures with their remedies and a table of all probes. Whoever can read it reads ids of
persons, and with --images sees faces.

For example:

    verifik-async report out.jsonl -o report.html
    verifik-async report out.jsonl -o report.html --images --max-images 500
""",
}
