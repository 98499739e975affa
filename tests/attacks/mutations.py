"""Mutated configs, manifests and metadata: each is read, or refused in one line, soon and in little memory.

They are read in this process, under a timer and a limit of its memory; what Python opens for writing meanwhile is
caught by an audit hook.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from attacks.flips import cut, flip
from data_prep.errors import UserError

SECONDS, MEMORY_BYTES = 10.0, 2 * 2**30
PATIENCE = 12  # so many times the seconds of processor time may pass on a busy machine
LOADED, REFUSED = "loaded", "refused"
Mutation = Callable[[bytes, random.Random], bytes]

_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 0.5, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324),
    *(float("nan"), float("inf"), "", " ", "\0", "a\nb", "\x1b[2J\x07", "\ud800", "é" * 50, "a" * 100_000),
    *("..", "../../escaped", "/escaped", "~", "{workdir}/../escaped", "$(touch escaped)", "file:///etc/passwd"),
    *("1e999", "0x1f", "9999-99-99", "nan", "float32", "object", "|O", "<m8[s]", "|V100000000000", "U1000000000"),
    *([], {}, [[]], [None], [0] * 1000, {"": None}, {"a": {"b": {}}}, {"__class__": "os.system"}),
)
_RAW = (
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b"9" * 5000,
    b"1e99999",
    b"-",
    b"\0",
    b"\xff\xfe",
    b"\xf0\x9f\x8c\x8d",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"{}" * 100,
    b"\r\n\t",
)


def _bomb(first: str, more: str) -> str:
    """Eleven lines whose aliases stand for nine to the eleventh values."""
    return "\n".join([first, *(more.format(i=i, nine=", ".join([f"*x{i - 1}"] * 9)) for i in range(1, 12))])


_BOMB = _bomb("x0: &x0 [z]", "x{i}: &x{i} [{nine}]")
_MERGES = _bomb("x0: &x0 {k: 1}", "x{i}: &x{i} {{<<: [{nine}]}}")
_TAGS = """\
!!python/object/apply:os.system ['touch escaped']
!!python/object/new:subprocess.Popen [[touch, escaped]]
!!python/name:os.system
!!python/module:os
!!python/tuple [1]
!unknown x
!!binary x
!!int x
!!float x
!!bool x
!!timestamp x
!!null x
!!omap x
!!set [a]
!!pairs [1]
!!map x
&a [*a]
&a {b: *a}
*nowhere
{? [1]: 2}
{? {a: b}: 2}
{1: 2}
{null: 1}
<<: 3
<<: [1]
0b2
1:99:99
0o9
1_000
=
%YAML 9.9
a: b: c
\t- x"""
_YAML = tuple(
    text.encode()
    for text in (
        *_TAGS.splitlines(),
        *("---\na: 1", "|\n x", ">-\n\n", "- " * 2000, "? " * 2000),
        *(f"\n{bomb}\n{use}\n" for bomb in (_BOMB, _MERGES) for use in ("", "name: *x11", "data: *x11")),
    )
)


class HangError(BaseException):
    """It took too long; not to be caught by what is under attack."""


@dataclass
class Found:
    """What came of a kind of input.

    Attributes:
      outcomes: How often each.
      wrong: What must not be, with the bytes that did it.
      slowest: Seconds.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, bytes]] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, outcome: str, content: bytes, seconds: float) -> None:
        """Counts one."""
        kind = outcome if outcome in (LOADED, REFUSED) else "WRONG"
        self.outcomes[kind] += 1
        self.slowest = max(self.slowest, seconds)
        if kind == "WRONG":
            self.wrong.append((outcome, content))


@dataclass(frozen=True)
class Target:
    """Files of a kind and who reads them.

    Attributes:
      name: For the table.
      files: One of them is changed at a time, in place.
      read: Reads all that the program would.
      mutations: How they are changed.
      share: Of all inputs.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[Path], object]
    mutations: tuple[Mutation, ...]
    share: float


def splice(content: bytes, rng: random.Random) -> bytes:
    """Some bytes are elsewhere, twice, or gone."""
    a, b, c = sorted(rng.randrange(len(content) + 1) for _ in range(3))
    return rng.choice(
        (content[:a] + content[b:], content[:b] + content[a:], content[:a] + content[b:c] + content[a:b] + content[c:])
    )


def raw(content: bytes, rng: random.Random) -> bytes:
    """Bytes that a parser may choke on, somewhere."""
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(_RAW) + content[at:]


def yaml_value(content: bytes, rng: random.Random) -> bytes:
    """A line's value is one that only YAML knows, or such lines are added."""
    lines = content.split(b"\n")
    at, text = rng.randrange(len(lines)), rng.choice(_YAML)
    key, colon, _ = lines[at].partition(b":")
    lines[at] = key + colon + b" " + text if colon else lines[at] + b"\n" + text
    return b"\n".join(lines)


def yaml_tree(content: bytes, rng: random.Random) -> bytes:
    """A value or a key of a YAML file is another."""
    import yaml

    return _dumped(_changed(yaml.safe_load(content), rng))


def json_tree(content: bytes, rng: random.Random) -> bytes:
    """A value or a key of a JSON file is another."""
    return _dumped(_changed(json.loads(content), rng))


def rehashed(content: bytes, rng: random.Random) -> bytes:
    """As ``json_tree``, with the hash of the contents as they are then."""
    tree = json.loads(_dumped(_changed(json.loads(content), rng)))
    if isinstance(tree, dict):
        tree.pop("sha256", None)
        tree["sha256"] = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    return _dumped(tree)


def _dumped(tree: Any) -> bytes:
    return json.dumps(tree, default=str).encode("utf-8", "surrogatepass")


def _changed(tree: Any, rng: random.Random) -> Any:
    """The tree with a node replaced, moved, renamed, wrapped or removed."""
    places = list(_places(tree))
    if not places:
        return rng.choice(_HOSTILE)
    holder, key = rng.choice(places)
    what = rng.randrange(8)
    if what < 4:
        holder[key] = rng.choice(_HOSTILE)
    elif what == 4:
        other, its = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[its], default=str))
    elif what == 5:
        holder[key] = _deep(
            holder[key], rng.choice((1, 20, 300)), rng
        )  # json.dumps has limits too; ``raw`` goes deeper
    elif isinstance(holder, dict) and what == 6:
        name = rng.choice([*(v for v in _HOSTILE if isinstance(v, str)), str(key) + "x"])
        holder[name] = holder.pop(key)
    else:
        del holder[key]
    return tree


def _deep(value: Any, depth: int, rng: random.Random) -> Any:
    key = rng.choice((None, "a"))
    for _ in range(depth):
        value = [value] if key is None else {key: value}
    return value


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys: Sequence[Any] = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


_TEXT: tuple[Mutation, ...] = (flip, cut, splice, raw)
YAML_MUTATIONS = (*_TEXT, yaml_value, yaml_value, yaml_tree, yaml_tree)
JSON_MUTATIONS = (*_TEXT, json_tree, json_tree, json_tree, json_tree)
HASHED_MUTATIONS = (*JSON_MUTATIONS, rehashed, rehashed, rehashed, rehashed)


_STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect")

# Where an audit event has the paths that change, and the descriptors of the folders that these are in
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.truncate": ((0, None),),
}


class _Writes:
    """What is written or started while it is watched: an audit hook cannot be taken away again."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in str(mode or "") for c in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or isinstance(path, int):
                return
            changed = [(path, -1)]
        elif event in _CHANGES:
            changed = [(arguments[path], -1 if at is None else arguments[at]) for path, at in _CHANGES[event]]
        elif event in _STARTS:
            self.seen.append(f"{event} {arguments!r:.100}")
            return
        else:
            return
        for path, folder in changed:
            if isinstance(path, int):  # a descriptor: its opening was seen
                continue
            base = Path() if folder == -1 else Path(f"/proc/self/fd/{folder}")
            place = Path(os.path.realpath(base / os.fsdecode(path)))
            if not place.is_relative_to(self.allowed) and place != Path(os.devnull):
                self.seen.append(f"{event} {place}")


_writes: _Writes | None = None


@contextmanager
def _limits(allowed: Path) -> Iterator[list[str]]:
    """Bounds processor time and memory of what is done inside, and lists what it writes outside of a folder."""
    global _writes
    _writes = _writes or _Writes()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of what is first imported inside

    def late(*_: object) -> None:
        raise HangError

    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE * SECONDS))
    handlers = {number: signal.signal(number, late) for number, _, _ in clocks}
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, before[1]))
    _writes.allowed, _writes.seen = allowed.resolve(), []
    for _, clock, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield _writes.seen
    finally:
        for _, clock, _ in clocks:
            signal.setitimer(clock, 0)
        _writes.allowed = None
        sys.dont_write_bytecode = bytecode
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def outcome(read: Callable[[], object], allowed: Path) -> str:
    """What comes of reading something hostile.

    Returns:
      ``loaded``, ``refused`` (in one line), or what went wrong.
    """
    found = LOADED
    with _limits(allowed) as written:
        try:
            read()
        except UserError as error:
            line = str(error)
            found = REFUSED if line and line.isprintable() and len(line) < 5000 else f"NOT A LINE: {line!r:.300}"
        except HangError:
            found = f"HANGS for more than {SECONDS:g} s"
        except MemoryError:
            found = f"MEMORY over {MEMORY_BYTES} bytes"
        except Exception as error:  # noqa: BLE001 - the point of the attack
            found = f"TRACEBACK {_where(error)} {type(error).__name__}: {error!s:.200}"
    return f"WRITES {written[0]}" if written else found


def _where(error: BaseException) -> str:
    """The last place in our own code that it passed."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if any(f"/{package}/" in file for package in ("emulator", "data_prep")) and "site-packages" not in file:
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def attack_target(target: Target, count: int, rng: random.Random) -> Found:
    """Changes files of a target one after the other and reads them; leaves them whole."""
    found = Found()
    for number in range(count):
        path = target.files[number % len(target.files)]
        whole = path.read_bytes()
        content = whole
        while content == whole:
            content = rng.choice(target.mutations)(whole, rng)
        path.write_bytes(content)
        began = time.process_time()
        try:
            found.add(outcome(lambda path=path: target.read(path), path.parent), content, time.process_time() - began)
        finally:
            path.write_bytes(whole)
    return found


def attack(root: Path, count: int, seed: int) -> bool:
    """All kinds by their shares, and one NetCDF file for every nineteen of them; prints a table.

    What must not be is kept in ``root/wrong``. Returns whether there is none.
    """
    from attacks.netcdf_mutations import attack_netcdf

    rng, n_netcdf = random.Random(seed), count // 20
    # before the network below wakes threads up: a fork of a process with threads may hang
    is_sound = _report(root, "NetCDF files", attack_netcdf(root / "netcdf", n_netcdf, rng))
    for target in make_targets(root / "small"):
        found = attack_target(target, round((count - n_netcdf) * target.share), rng)
        is_sound = _report(root, target.name, found) and is_sound
    return is_sound


def _report(root: Path, name: str, found: Found) -> bool:
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found.outcomes.items()))
    print(f"{name}: {found.outcomes.total()} inputs, {counts}; the slowest took {found.slowest:.1f} s of a processor")
    for number, (what, content) in enumerate(found.wrong):
        kept = root / "wrong" / f"{name.replace(' ', '_')}_{number}"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
        print(f"  {kept}: {what}")
    sys.stdout.flush()
    return not found.wrong


def make_targets(root: Path) -> list[Target]:
    """Small real files of every kind that is read as text, and their readers."""
    from tiny_store import write_store
    from world_files import world

    from data_prep.files.npz import write_arrays
    from data_prep.grid import Grid
    from data_prep.inspection.report import inspect_files
    from data_prep.preparation.store import open_store
    from emulator.checkpoint import WEIGHTS, describe_run, load_forecaster, named_leaves
    from emulator.config import UNetConfig, load_config
    from emulator.experiment.running import stage_seconds
    from emulator.stepping.stepper import make_stepper

    repository = Path(__file__).parents[2]
    configs = root / "configs"
    configs.mkdir(parents=True)
    for file in (*(repository / "configs").glob("*.yaml"), repository / "tests" / "tiny.yaml"):
        shutil.copy(file, configs)

    store = write_store(root / "store.zarr", Grid.gaussian(8), n_times=8)

    def read_store(_: Path) -> None:
        opened = open_store(root / "store.zarr")
        opened.read_state(0, 2)
        opened.verify()

    model = UNetConfig(width=8, multipliers=[1], blocks=1)
    facts = {"data": {"inputs": ["none"], "prognostic": {"temperature": {}}, "split": {"segments": {"train": [0]}}}}
    run = root / "run"
    describe_run(run, store, model, precision="float32", seed=0, identity="i", experiment=facts)
    described = (store.spec, store.grid, store.timestep, store.statistics, store.static)
    _, params = make_stepper(model, *described, precision="float32", seed=0)
    write_arrays(run / WEIGHTS, named_leaves(params))

    finished = {"fingerprint": "f", "finished": True, "seconds": 1.5}
    stages = {"prepare": finished, "train": {"fingerprint": "g", "finished": False}}
    (root / "stages.json").write_text(json.dumps(stages))
    zarrs = []
    for version in (2, 3):
        world().isel(time=slice(0, 8)).to_zarr(root / f"input{version}.zarr", zarr_format=version, consolidated=False)
        names = (".zgroup", ".zattrs", ".zarray") if version == 2 else ("zarr.json",)
        zarrs += [p for p in sorted((root / f"input{version}.zarr").rglob("*")) if p.name in names]

    def zarr_of(path: Path) -> Path:
        return next(p for p in path.parents if p.suffix == ".zarr")

    return [
        Target("config", tuple(sorted(configs.iterdir())), lambda p: load_config(p), YAML_MUTATIONS, 0.42),
        Target("manifest.json of a store", (root / "store.zarr" / "manifest.json",), read_store, JSON_MUTATIONS, 0.15),
        Target(
            "zarr.json of a store",
            tuple(sorted((root / "store.zarr").rglob("zarr.json"))),
            read_store,
            JSON_MUTATIONS,
            0.12,
        ),
        Target("run.json", (run / "run.json",), lambda p: load_forecaster(p.parent), HASHED_MUTATIONS, 0.015),
        Target(
            "stages.json", (root / "stages.json",), lambda p: stage_seconds(p.parent, "prepare"), JSON_MUTATIONS, 0.04
        ),
        Target("metadata of Zarr inputs", tuple(zarrs), lambda p: inspect_files([zarr_of(p)]), JSON_MUTATIONS, 0.155),
        *_results(root / "results"),
        *([_nature_run(root / "nature")] if find_spec("jcm") else []),
    ]


def _results(folder: Path) -> list[Target]:
    """Scores as reports, tables, plots and summaries read them, and forecasts as the verification does."""
    from small_experiment import make_experiment

    import emulator.evaluation.plots  # noqa: F401 - matplotlib makes a folder in the user's home once
    from attacks.metadata import netcdf_tree
    from data_prep.grid import Grid
    from emulator.evaluation.scores import evaluate
    from emulator.experiment.comparing import summarise_scores, write_report

    made = make_experiment(folder, Grid.gaussian(8), ("geopotential@500", "2m_temperature"), {"data_hash": "h"})
    alone = folder / "alone" / "scores.nc"  # far from its forecasts, which reports would draw for long
    alone.parent.mkdir()
    shutil.copy(folder / "scores.nc", alone)
    given = folder / "given.nc"
    shutil.copy(made.paths["network"], given)
    few = made.config.model_copy(update={"bootstrap": 2})

    def read_scores(path: Path) -> None:
        with patch("emulator.evaluation.scores_file.probe"):  # the files that it is for are ``netcdf_mutations``
            summarise_scores(path.parent)
            write_report(path, path.with_name("report.html"))

    def read_forecast(path: Path) -> None:
        paths = {"climatology": made.paths["climatology"], "given": path}
        evaluate(paths, made.store, few, path.with_name("new.nc")).close()

    return [
        Target("metadata of scores", (alone,), read_scores, (netcdf_tree,), 0.03),
        Target("metadata of forecasts", (given,), read_forecast, (netcdf_tree,), 0.03),
    ]


def _nature_run(folder: Path) -> Target:
    """The record of a nature run, which needs the extra ``physics`` to be read."""
    from emulator.config import SimulateConfig
    from emulator.physics.nature_run import RECORD, _is_finished

    simulate = SimulateConfig()
    folder.mkdir()
    record = {"format_version": 1, "config": simulate.model_dump(mode="json"), "seed": 0}
    (folder / RECORD).write_text(json.dumps(record))
    return Target(
        "simulate.json", (folder / RECORD,), lambda p: _is_finished(p.parent, simulate, 0), JSON_MUTATIONS, 0.04
    )
