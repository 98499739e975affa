"""What the documentation says about the code is what the code says."""

import re
from pathlib import Path

import yaml

from emulator.config import EvaluateConfig
from emulator.evaluation.metrics import METRICS

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_metrics_is_complete():
    """To mend it: put the lines that this prints between the two marks."""
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    table = text.partition("<!-- metrics -->")[2].partition("<!-- /metrics -->")[0]
    rows = [f"| `{m.name}` | `{m.long_name.replace('|', chr(92) + '|')}` |" for m in METRICS.values()]
    wanted = "\n".join(["", "| name | definition |", "| --- | --- |", *rows, ""])
    assert table == wanted, wanted


def test_the_example_of_regions_is_a_valid_section():
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    sections = [yaml.safe_load(block)["evaluate"] for block in blocks]
    assert sections
    for section in sections:
        EvaluateConfig.model_validate(section)
