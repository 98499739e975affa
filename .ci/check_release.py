"""Builds wheel and sdist, looks at what they hold, and runs an experiment from the wheel in an empty environment.

    python .ci/check_release.py FOLDER      # which is made afresh; everything happens in it

Standard library only: what runs it need have nothing installed. Constraints of the checkout pin what pip installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

MAKE_DATA = """
import numpy as np, xarray as xr
rng = np.random.default_rng(0)
time = np.datetime64("2001-01-01", "ns") + np.arange(160) * np.timedelta64(6, "h")
lat, lon = np.arange(40.0, 48.0), np.arange(0.0, 12.0)
wave = np.sin(np.radians(30 * lon)[None, None] - 0.3 * np.arange(160)[:, None, None] + lat[:, None] / 9)
field = 280 + 8 * wave + rng.standard_normal((160, 8, 12))
xr.Dataset(
    {"t2m": (("time", "lat", "lon"), field.astype("float32"), {"units": "K", "standard_name": "air_temperature"})},
    {"time": time, "lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
).to_netcdf("my data.nc")
"""


def main(folder: Path) -> None:
    """All of it; leaves with a message at the first thing that is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = environment(folder / "builder", "build")
    run(python, "-m", "build", "--outdir", folder / "dist", ROOT)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    files = {f for f in tracked.split("\0") if f and (ROOT / f).exists()}
    check_wheel(wheel, files)
    check_sdist(sdist, files)
    use(environment(folder / "user", str(wheel)), folder)


def environment(folder: Path, *packages: str) -> Path:
    """The interpreter of a new environment that holds these packages."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS, *packages)
    return python


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. No path of the checkout reaches it."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=clean, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"check_release: {' '.join(map(str, words))} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def compare(what: str, found: set[str], expected: set[str]) -> None:
    """Leaves unless both are the same."""
    if found != expected:
        missing, more = sorted(expected - found), sorted(found - expected)
        sys.exit(f"check_release: {what} lacks {missing or 'nothing'} and should not hold {more or 'anything else'}")
    print(f"{what}: {len(found)} files, as they should be")


def check_wheel(wheel: Path, files: set[str]) -> None:
    """The two packages, the configs inside of one, and what describes it."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        facts = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
    code = {f for f in files if f.startswith(("emulator/", "data_prep/"))}
    compare(wheel.name, found, code | {f"emulator/{f}" for f in files if f.startswith("configs/")})
    compare("its metadata", facts, {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"})


def check_sdist(sdist: Path, files: set[str]) -> None:
    """All that is kept in the repository but settings of tools."""
    with tarfile.open(sdist) as archive:
        found = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    compare(sdist.name, found - {"PKG-INFO", ".gitignore"}, files - {".gitignore", ".pre-commit-config.yaml"})


def use(python: Path, folder: Path) -> None:
    """What a user does first, far from the checkout."""
    place = folder / "a user's folder"
    place.mkdir()
    emulator = python.with_name("emulator")
    ours = (
        (ROOT / "emulator" / "__init__.py")
        .read_text(encoding="utf-8")
        .partition('__version__ = "')[2]
        .partition('"')[0]
    )
    version = run(emulator, "--version", cwd=place).strip()
    if version != ours:
        sys.exit(f"check_release: emulator --version says {version}, emulator/__init__.py {ours}")
    shipped = run(
        python, "-c", "from emulator.config import shipped_configs; print(*shipped_configs())", cwd=place
    ).split()
    if set(shipped) != {p.stem for p in (ROOT / "configs").glob("*.yaml")}:
        sys.exit(f"check_release: the installed package finds the configs {shipped}")
    run(python, "-c", MAKE_DATA, cwd=place)
    print(run(emulator, "init", "my data.nc", "--minutes", "0.05", cwd=place))
    table = run(emulator, "run", "my_config.yaml", cwd=place)
    if "RMSE by lead time" not in table or not (place / "runs" / "my_config" / "report.html").is_file():
        sys.exit(f"check_release: emulator run left no table and report\n{table}")
    run(emulator, "forecast", "runs/my_config/run", "my data.nc", "--days", "2", cwd=place)
    print(f"emulator {version}: from the wheel to a table, a report and a forecast")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
