"""The README's first steps, as they stand there, on a weir that runs."""

from __future__ import annotations

import json
import urllib.request

from command import json_lines, started, weir
from readme import run, shell_blocks


def test_the_first_steps_do_what_they_say(environ: dict[str, str]) -> None:
    environ |= {"WEIR_LINKS_WINDOW": "3s", "WEIR_LINKS_GRACE": "1s"}  # so that a window ends while the test waits
    start, send, see, ask = shell_blocks("First steps")
    assert start == ". .venv/bin/activate\nweir up\n"
    with started(environ, "up") as up:
        up.wait_for(lambda: any(b"Ctrl-C ends everything" in line for line in up.out))

        assert run(send, environ) == b"accepted 1, refused 0\naccepted 1, refused 0\n"

        [record] = json_lines(run(see, environ))
        count = {name: record["value"][name] for name in ("source", "destination", "count")}
        assert count == {"source": "shop", "destination": "billing", "count": 1}

        up.wait_for(lambda: "shop" in weir(environ, "links", "--json").stdout.decode())
        links, curl = ask.splitlines()
        assert b"shop" in run(links, environ)
        command, url = curl.rsplit(" ", 1)
        assert (command, url) == ("curl -s", "http://127.0.0.1:8000/links")
        with urllib.request.urlopen(url.replace("8000", environ["WEIR_API_PORT"])) as answer:
            windows = json.load(answer)
        assert [window["links"] for window in windows if window["links"]] == [[count]]

        assert up.interrupt() == 0
