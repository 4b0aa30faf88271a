"""The README's commands run as they stand, on an embedded broker of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.ports import free_port

ROOT = Path(__file__).parent.parent
ANTIPHON = Path(sys.executable).with_name("antiphon")
RUN_S = 150


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.mark.timeout(2 * RUN_S)
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """One shell runs every bash block in order, each line must succeed, and no broker stays behind."""
    if not ANTIPHON.exists():
        pytest.skip(f"the distribution is not installed beside {sys.executable}: `make setup` does it")
    taken: set[int] = set()
    environment = os.environ | {
        "PATH": f"{ANTIPHON.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path),
        "ANTIPHON_BROKER__PORT": str(free_port("127.0.0.1", taken)),
        "COLUMNS": "200",
    }
    script = "set -euo pipefail\n" + "\n".join(blocks("bash"))
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
        )
    finally:
        subprocess.run(
            [str(ANTIPHON), "broker", "stop"], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "core/log.py" in done.stdout
    assert '"dl-reason"' in done.stdout


def test_the_python_of_the_readme_compiles() -> None:
    """Each Python block is valid Python, await at its top level allowed."""
    import ast

    assert len(blocks("python")) >= 2
    for block in blocks("python"):
        compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_pages_that_the_readme_names_exist() -> None:
    """Every linked page is there."""
    for page in re.findall(r"\]\((docs/[a-z_]+\.md)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / page).is_file(), page
