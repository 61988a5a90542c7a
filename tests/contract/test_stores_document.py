"""docs/stores.md is right: its ten lines are a whole test file, and the numbers in it are those of the kit."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.contract.test_store_kit_controls import CATCHERS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()


def test_the_ten_lines_run_the_kit(tmp_path: Path) -> None:
    """As they stand they test a store with every promise of the kit."""
    [snippet] = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    (tmp_path / "test_my_store.py").write_text(snippet)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed and int(passed[1]) >= 60, done.stdout


def test_the_number_of_broken_stores_is_told_as_it_is() -> None:
    """What stands in the document is what is tried."""
    assert len([name for name, tests in CATCHERS.items() if tests]) == 27 and "Twenty-seven stores" in DOCUMENT
