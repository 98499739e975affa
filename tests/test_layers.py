"""Imports point one way: the layers of docs/architecture.md."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PHYSICS_LIBRARIES = {"jcm", "dinosaur", "jax_datetime"}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports; ``from a import b`` counts as both ``a`` and ``a.b``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} is empty: the test would check nothing"
    return paths


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_data_prep_knows_nothing_of_the_emulator():
    for path in files("data_prep"):
        bad = [n for n in imports(path) if inside(n, "emulator") or inside(n, "jax") or inside(n, "flax")]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def room(module: str) -> str:
    """``emulator.training`` for whatever lies below it; a module directly below ``emulator`` is a room of its own."""
    return ".".join(module.split(".")[:2])


def test_rooms_need_each_other_one_way():
    """Imports inside functions count, those for types too; ``emulator`` itself, lazy, is no room."""
    needs: dict[str, set[str]] = {}
    for path in files("data_prep") + files("emulator"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if "." in module:
            ours = {room(n) for n in imports(path) if n.startswith(("data_prep.", "emulator."))}
            existing = {
                n
                for n in ours
                if (ROOT / n.replace(".", "/")).is_dir() or (ROOT / f"{n.replace('.', '/')}.py").exists()
            }
            needs.setdefault(room(module), set()).update(existing - {room(module)})
    assert {"data_prep.reading", "emulator.training"} <= needs["emulator.experiment"], "imports are not seen"
    graphlib.TopologicalSorter(needs).prepare()  # raises, naming the circle


def test_netcdf_is_written_through_one_door():
    for path in files("data_prep") + files("emulator"):
        if (ROOT / "emulator/benchmarks") in path.parents:  # writes what it measures with, not results
            continue
        assert "to_netcdf(" not in path.read_text(encoding="utf-8"), f"{path}: use data_prep/files/netcdf_file.py"


def loaded_by(names: list[str]) -> list[str]:
    """All modules that are loaded once these are imported, in a fresh process."""
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return out.stdout.split()


def test_evaluation_scores_files_whoever_made_them():
    """Not even what it imports knows of forecasters, whether at the top of a file or in a function."""
    loaded = loaded_by([".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files("emulator/evaluation")])
    ours = [ROOT / m.replace(".", "/") for m in loaded if m.startswith("emulator.")]
    found = [path for m in ours for path in (m.with_suffix(".py"), m / "__init__.py") if path.exists()]
    assert len(found) == len(ours), "what is not found is not looked at"
    later = set().union(*map(imports, found))
    forbidden = [
        f"emulator.{m}"
        for m in ("models", "stepping", "training", "planning", "physics", "forecasters", "checkpoint", "experiment")
    ]
    bad = [m for m in {*loaded, *later} if any(inside(m, f) for f in (*forbidden, "jax", "flax"))]
    assert not bad, f"emulator.evaluation imports {sorted(bad)}"


def test_physics_libraries_stay_below_emulator_physics():
    for path in files("emulator") + files("data_prep") + files("scripts"):
        if (ROOT / "emulator/physics") in path.parents:
            continue
        bad = [n for n in imports(path) if n.split(".")[0] in PHYSICS_LIBRARIES]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def test_core_imports_physics_only_inside_functions():
    for path in files("emulator"):
        if (ROOT / "emulator/physics") in path.parents or path.name == "physics.py":
            continue
        bad = [
            n
            for n in imports(path, top_level_only=True)
            if inside(n, "emulator.physics") or inside(n, "emulator.forecasters.physics")
        ]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad} at its top"


def test_scripts_hold_no_logic():
    for path in files("scripts"):
        if path.name == "benchmark.py":
            continue
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 12, f"{path.name} has grown logic of its own"


@pytest.mark.parametrize("module", ["emulator.cli", "emulator.config", "emulator.experiment.stages"])
def test_the_command_line_starts_without_heavy_imports(module):
    assert {"jax", "xarray", "numpy", "flax", "jcm"}.isdisjoint(loaded_by([module]))


def test_a_network_is_read_without_what_trains_one():
    assert {"orbax", "grain", "xarray", "emulator.training"}.isdisjoint(loaded_by(["emulator.checkpoint"]))
