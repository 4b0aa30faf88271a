"""The embedded broker's jars: pinned, verified cheaply, mended when spoilt."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from streams import jars
from streams.errors import DownloadFailed


@pytest.fixture(scope="module")
def two_jars() -> tuple[jars.Jar, ...]:
    """The smallest two of the list, so that a test that downloads is short."""
    return tuple(sorted(jars.pinned_jars(), key=lambda jar: jar.size)[:2])


@pytest.fixture
def directory(tmp_path: Path, two_jars: tuple[jars.Jar, ...]) -> Path:
    """A cache of its own, filled from the user's."""
    cached = {path.name: path for path in jars.ensure(announce=False)}
    for jar in two_jars:
        shutil.copy(cached[jar.filename], tmp_path / jar.filename)
    return tmp_path


def test_the_list_is_complete_and_pinned() -> None:
    """Every line has a coordinate, a full SHA-256 and a size, and no jar is there twice."""
    pinned = jars.pinned_jars()
    assert len(pinned) == len({jar.filename for jar in pinned}) == 32
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in pinned)
    assert {jar.version for jar in pinned if jar.group == "org.apache.kafka"} == {jars.KAFKA_VERSION}


def test_a_second_start_hashes_nothing(directory: Path, two_jars: tuple[jars.Jar, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once verified, sizes and times are compared, and no content is read."""
    jars.ensure(directory, jars=two_jars, announce=False)
    monkeypatch.setattr(jars, "_sha256", lambda path: pytest.fail(f"hashed {path}"))
    began = time.perf_counter()
    assert [path.name for path in jars.ensure(directory, jars=two_jars, announce=False)] == [jar.filename for jar in two_jars]
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("spoil", ["truncated", "changed", "gone"])
def test_a_spoilt_jar_is_fetched_again(directory: Path, two_jars: tuple[jars.Jar, ...], spoil: str) -> None:
    """A truncated, changed or missing jar is noticed at the next start and replaced by the pinned one."""
    jars.ensure(directory, jars=two_jars, announce=False)
    path = directory / two_jars[0].filename
    if spoil == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-7] if spoil == "truncated" else b"\0" + content[1:])
    jars.ensure(directory, jars=two_jars, announce=False)
    assert jars._sha256(path) == two_jars[0].sha256
    assert not list(directory.glob(".staging-*"))


def test_a_jar_that_is_not_the_pinned_one_is_refused(directory: Path, two_jars: tuple[jars.Jar, ...]) -> None:
    """Where the repository has another content, the error names jar and both hashes, and nothing is put in place."""
    wrong = replace(two_jars[0], sha256="0" * 64)
    (directory / wrong.filename).unlink()
    with pytest.raises(DownloadFailed, match=rf"{wrong.coordinate}.*its SHA-256 is {two_jars[0].sha256}, pinned is 0000"):
        jars.ensure(directory, jars=(wrong,), announce=False)
    assert not (directory / wrong.filename).exists()


def test_a_jar_that_nobody_has_gives_one_line(tmp_path: Path, two_jars: tuple[jars.Jar, ...]) -> None:
    """The error names the jar and says what to do."""
    absent = replace(two_jars[0], version="0.0.0-none")
    with pytest.raises(DownloadFailed, match="check the network") as caught:
        jars.ensure(tmp_path, jars=(absent,), announce=False)
    assert "\n" not in str(caught.value)
