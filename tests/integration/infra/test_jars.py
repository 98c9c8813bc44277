"""The download of Apache Kafka's jars, from a repository of the test's own."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo.maven._core
import pytest

from weir.infra.errors import DownloadError
from weir.infra.servers import jars

CONTENT = b"jar" * 100_000


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def jar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[jars.Jar]:
    """A jar that a repository has, which is asked instead of Maven Central."""
    jar = jars.Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    place = tmp_path / "repository" / "org" / "example" / "thing" / "1.0"
    place.mkdir(parents=True)
    (place / jar.filename).write_bytes(CONTENT)
    handler = functools.partial(Quiet, directory=str(tmp_path / "repository"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setitem(
            jgo.maven._core.DEFAULT_REMOTE_REPOS, "central", f"http://127.0.0.1:{server.server_address[1]}"
        )
        yield jar
        server.shutdown()
        thread.join()


def test_a_download_reports_its_bytes_as_they_come(jar: jars.Jar, tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    reported: list[int] = []
    jars._fetch(jar, tmp_path, reported.append)
    assert sum(reported) == jar.size
    assert len(reported) > 1
    assert (tmp_path / "jars" / jar.filename).read_bytes() == CONTENT


def test_the_progress_is_shown_on_standard_error(
    jar: jars.Jar, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jars._download(tmp_path / "kafka", [jar])
    assert jars.whole(tmp_path / "kafka", [jar])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"Downloading Apache Kafka {jars.KAFKA_VERSION}" in shown.err
    assert "300.0/300.0 kB" in shown.err


def test_other_bytes_than_the_locks_are_not_taken(jar: jars.Jar, tmp_path: Path) -> None:
    other = jars.Jar(jar.group, jar.artifact, jar.version, hashlib.sha256(b"other").hexdigest(), jar.size)
    with pytest.raises(DownloadError, match="is not the file that weir expects"):
        jars._download(tmp_path / "kafka", [other])
    assert not (tmp_path / "kafka").exists()
