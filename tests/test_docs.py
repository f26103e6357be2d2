"""The Python examples in README.md and docs/ run, and the picture shows what the tables say.

A block that opens with ```python is run as a program of its own; one that shows a fragment opens with
```python norun.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.M | re.S)


def examples():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        for block in FENCE.finditer(text):
            if block["info"].split() == ["python"]:
                line = text.count("\n", 0, block.start("body")) + 1
                yield pytest.param(block["body"], line, id=f"{path.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("source, line", list(examples()))
def test_example_runs(source, line, tmp_path):
    program = tmp_path / "example.py"
    program.write_text("\n" * (line - 1) + source)  # so that a traceback names the document's line
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_readme_has_examples():
    assert any(p.id.startswith("README.md") for p in examples())


def test_the_picture_shows_the_tables(tmp_path):
    drawn = tmp_path / "performance.svg"
    command = [sys.executable, ROOT / "benches/chart.py", ROOT / "docs/performance.md", drawn]
    subprocess.run(command, check=True, timeout=30)
    assert drawn.read_text() == (ROOT / "docs/performance.svg").read_text()
    assert "docs/performance.svg" in (ROOT / "README.md").read_text()
