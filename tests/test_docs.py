"""What the documentation says about the code is what the code says, and what it tells to type works."""

import importlib.util
import re
from pathlib import Path

import pytest
import xarray as xr
from doc_blocks import ROOT, Block, Runner, Wrong, blocks_of, check, pages
from doc_checkout import copy, make_checkout
from markdown_it import MarkdownIt

from emulator.config import ExperimentConfig
from emulator.evaluation.metrics import METRICS
from emulator.evaluation.scores_reader import read_crossover
from emulator.evaluation.strata import strata

DOCS = ROOT / "docs"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    return blocks_of(path.read_text(encoding="utf-8"), name(path))


PAGES = {name(path): path for path in pages()}
WITH_BLOCKS = [page for page, path in PAGES.items() if any(b.mark != "not run" for b in blocks(path))]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    for block in blocks(PAGES[page]):
        check(block)


@pytest.fixture(scope="session")
def checkout(tiny_experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "checkout"
    make_checkout(folder, tiny_experiment)
    return folder


@pytest.mark.slow
@pytest.mark.physics
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_what_a_page_tells_to_type_works(page, checkout, tmp_path, monkeypatch):
    folder = tmp_path / "checkout"
    copy(checkout, folder)
    monkeypatch.chdir(folder)
    runner = Runner(folder)
    for block in blocks(PAGES[page]):
        runner.run(block)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("    an indented block", "needs one of the languages"),
        ("1. item\n\n   ```\n   no language\n   ```", "needs one of the languages"),
        ("> ```bash\n> x\n> ```", "needs one of the languages"),
        ("```text\nemulator run demo\n```", "a command in a text block"),
        ("<!-- not run: -->\n\n```sh\nemulator run demo\n```", "needs a reason"),
        ("<!-- output -->\n\n```sh\nx\n```", "output is a 'text' block"),
        ("<!-- not run: takes too long -->\n\n```sh\nemulator run demo --fast\n```", "--fast"),
        ("<!-- not run: takes too long -->\n\n```sh\nif true\n```", "syntax error"),
        ("```sh\nFIRST=1 emulator train\n```", "required: CONFIG"),
    ],
)
def test_a_block_that_cannot_be_right_is_found(markdown, expected):
    (block,) = blocks_of(markdown, "page.md")
    with pytest.raises(Wrong, match=re.escape(expected)):
        check(block)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("```sh\nfalse\n```", "page.md:1: exit code 1, expected 0"),
        ("```sh\nemulator run no_such_config\n```", "no such file"),
        ("```python\nx = 1\nassert x == 2\n```", "AssertionError"),
        ("```yaml\ntrain: {batch_sise: 3}\n```", "did you mean train.batch_size"),
        (
            "```sh\necho a; echo b\n```\n\n<!-- output -->\n\n```text\nb\na\n```",
            "did not print, or not in this order: 'a'",
        ),
    ],
)
def test_a_block_that_does_not_run_is_found(markdown, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = Runner(tmp_path)
    with pytest.raises(Wrong, match=re.escape(expected)):
        for block in blocks_of(markdown, "page.md"):
            runner.run(block)


def test_marks_names_and_output_are_kept_from_block_to_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        "<!-- not run: no such command -->\n\n```sh\nnot_a_command\n```\n\n```python\nx = 2\n```\n\n"
        "```python\nprint(x)\nprint('end')\n```\n\n<!-- output -->\n\n```text\n2\n...\n```\n\n"
        "<!-- exit code 2 -->\n\n```sh\nemulator run no_such_config\n```\n"
    )
    runner = Runner(tmp_path)
    for block in blocks_of(text, "page.md"):
        check(block)
        runner.run(block)


def headings(path: Path) -> set[str]:
    """Anchors as code hosts and the site make them."""
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", t)).strip().lower().replace(" ", "-")
        for t in titles
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """On a code host; in the site, the strict build sees to it."""
    path = PAGES[page]
    tokens = [child for t in MarkdownIt().enable("table").parse(path.read_text("utf-8")) for child in t.children or ()]
    targets = [t.attrGet("href") or t.attrGet("src") for t in tokens if t.type in ("link_open", "image")]
    for target in targets:
        if re.match(r"[a-z]+:", str(target)):
            continue
        file, _, anchor = str(target).partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{page}: {target}"
        assert ROOT in there.parents, f"{page}: {target} leads out of the repository"
        if anchor:
            assert anchor in headings(there), f"{page}: {target}"


def test_the_table_of_metrics_is_complete():
    """To mend it: put the lines that this prints between the two marks."""
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    table = text.partition("<!-- metrics -->")[2].partition("<!-- /metrics -->")[0]
    rows = [f"| `{m.name}` | `{m.long_name.replace('|', chr(92) + '|')}` |" for m in METRICS.values()]
    wanted = "\n".join(["", "| name | definition |", "| --- | --- |", *rows, ""])
    assert table == wanted, wanted


def load(name):
    """A module that lies beside the pages."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["commands.md", "config.md", "data.md"])
def test_the_written_tables_are_current(page):
    """To mend it: make reference."""
    assert (DOCS / page).read_text(encoding="utf-8") == load("reference").page(page)


@pytest.mark.slow
def test_the_tables_of_results_are_printed_from_a_scores_file(tiny_experiment, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["results_tables.py", str(tiny_experiment / "scores.nc")])
    load("results_tables").main()
    text = capsys.readouterr().out
    assert text.startswith("RMSE at 6 hours / 24 hours\n")
    with xr.open_dataset(tiny_experiment / "scores.nc") as scores:
        rmse = scores["rmse"].sel(variable="mean_sea_level_pressure", forecaster="network", region="all").values / 100
        until = read_crossover(scores, "network", "physics_t21", "geopotential@500").describe()
        parts = [f"| {p.label} ({p.rows.size}) |" for p in strata(scores)] or ["(they are of one season and one"]
    assert f"| Mean sea-level pressure, hPa | {rmse[0]:.3g} / {rmse[-1]:.3g} |" in text
    assert f"| Z500 | {until} |" in text
    assert all(expected in text for expected in parts)
    monkeypatch.setattr("sys.argv", ["results_tables.py", str(tiny_experiment / "scores.nc"), "physics_t21"])
    load("results_tables").main()
    assert capsys.readouterr().out == text  # there is no other baseline
    monkeypatch.setattr("sys.argv", ["results_tables.py", str(tiny_experiment / "scores.nc"), "physics_t31"])
    load("results_tables").main()
    assert "T21" not in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["results_tables.py", str(tiny_experiment / "scores.nc"), "physics", "persistence"])
    load("results_tables").main()
    assert "|  | Persistence | Physics T21 |" in capsys.readouterr().out


def test_every_key_of_a_config_is_described():
    schema = ExperimentConfig.model_json_schema()
    fields = {("", key): field for key, field in schema["properties"].items()}
    for section, definition in schema["$defs"].items():
        fields |= {(section, key): field for key, field in definition["properties"].items()}
    assert len(fields) > 80
    assert not [place for place, field in fields.items() if not field.get("description")]


def test_the_reference_of_the_config_lists_every_key():
    tables = (DOCS / "config.md").read_text(encoding="utf-8")
    schema = ExperimentConfig.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, field in section["properties"].items():
            assert f"| `{key}` |" in tables
            assert field["description"] in tables
    for heading in ("data.prognostic.NAME", "model (kind: graph)", "train.stages.N", "evaluate.long_run"):
        assert f"## `{heading}`" in tables
    assert "| `confidence` | Coverage that intervals aim at | number > 0.5, < 1 | `0.95` |" in tables
    assert "| `truncation` | Spectral truncation of the truth | `21`, `31`, `42`, `63`, `85` | `31` |" in tables


def test_the_reference_of_the_commands_lists_every_command():
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for words in ("## `emulator run`", "| `--days DAYS` |", "| `FILE` |", "`emulator regrid"):
        assert words in text


def test_make_help_names_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"(?m)^\.PHONY: help (.*)$", makefile)[1].split()
    told = re.findall(r"(?m)^# make (\S+)  ", makefile.partition("\n\n")[0])
    assert set(told) == set(targets) - {"lint", "types"}  # which are the parts of check
