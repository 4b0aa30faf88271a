"""Real Apache Flink CEP as a child process: a case goes in, the case with Flink's answer comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

JAR = Path("oracle/target/cep-oracle-1.jar")


class FlinkMissing(Exception):
    """The oracle is not there or cannot be built: says what to do."""


def prepared(source: Path, cache: Path) -> Path:
    """A directory with the oracle, built: `source` itself where it is, else a copy of it in `cache`, built once by Maven.

    Raises:
        FlinkMissing: There is no oracle, or Maven failed.
    """
    if (source / JAR).exists():
        return source
    if not (source / "run-oracle").exists():
        raise FlinkMissing(f"no oracle in {source}: name its directory with --oracle")
    if not (cache / JAR).exists():
        shutil.copytree(source, cache, dirs_exist_ok=True)
        for path in [cache, *cache.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)  # the original may be read-only
        try:
            built = subprocess.run(
                ["mvn", "-q", "-B", "package"], cwd=cache / "oracle", capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise FlinkMissing("Maven (`mvn`) is needed to build the oracle once") from None
        if built.returncode:
            raise FlinkMissing(f"Maven failed in {cache / 'oracle'}:\n{built.stdout}{built.stderr}")
    return cache


class Flink:
    """The oracle at work, one case at a time; it is started with the first and again after a crash.

    Args:
        directory: From `prepared`.
    """

    def __init__(self, directory: Path) -> None:
        self._command = [str(directory / "run-oracle"), "--fill", "--flush-lines"]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        """The case with what Flink made of it in `expect`.

        Raises:
            FlinkMissing: The oracle died of this case.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({key: value for key, value in case.items() if key != "expect"}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.close()
            raise FlinkMissing(f"the oracle ended with case {case.get('name')}")
        return {**case, "expect": json.loads(line)["expect"]}

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
