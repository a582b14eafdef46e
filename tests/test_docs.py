"""What the documentation tells people to type runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def code_of(page: Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["README.md", "docs/analysis.md", "docs/lfads.md", "docs/force.md", "docs/context.md", "docs/seq2seq.md"]
)
def test_every_block_runs(page, tmp_path):
    code = code_of(ROOT / page)
    assert code.count("\n") > 20
    code = "import matplotlib\nmatplotlib.use('Agg')\n" + code
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
