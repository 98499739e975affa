"""What files hold, what is wrong with them, and a ``data`` section that reads them: what ``emulator inspect`` says."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_prep import clock
from data_prep.config import DataConfig
from data_prep.errors import DataError, percent
from data_prep.inspection.files import (
    FileReport,
    by_variable,
    findings_of,
    is_lacking,
    look_at_files,
    record_times,
    used_files,
)
from data_prep.inspection.section import suggest_section
from data_prep.inspection.text import as_text, file_as_json, finding_as_json
from data_prep.reading.inputs import Inputs, open_canonical
from data_prep.reading.locations import Location
from data_prep.reading.quality import Finding
from data_prep.variables import is_accumulation


@dataclass(frozen=True)
class Report:
    """Some files.

    Attributes:
      text: For people; ends with the ``data`` section.
      section: The ``data`` section of a config.
      findings: All that is wrong, in the order of the files.
      refusal: Why preparation would refuse the files, ``None`` where it would not.
      files: Each of them.
      is_mendable: Whether that is for the defects among the findings alone.
    """

    text: str
    section: dict[str, Any]
    findings: tuple[Finding, ...]
    refusal: str | None
    files: tuple[FileReport, ...]
    is_mendable: bool

    def to_json(self) -> dict[str, Any]:
        """For machines: what ``text`` says; times in ISO 8601, values in SI units."""
        return {
            "files": [file_as_json(file) for file in self.files],
            "findings": [finding_as_json(finding) for finding in self.findings],
            "refusal": self.refusal,
            "data": self.section,
        }


def inspect_files(paths: Sequence[Location]) -> Report:
    """Looks at files together, as the inputs of one data set.

    Raises:
      DataError: one line on what makes a file unusable, as preparation would give it.
    """
    files = look_at_files(paths)
    section = suggest_section(files)
    refusal, is_mendable = None, False
    try:
        inputs = _joined(used_files(files), files, section)
    except DataError as error:
        refusal = str(error)
    else:
        files = _judged_by_step(files, inputs) if inputs is not None else files
        other = _undated(files) or _missing_of_the_state(files, section)
        refusal, is_mendable = other or _defects(files), other is None
    findings = tuple(f for file in files for f in findings_of(file))
    return Report(as_text(files, section), section, findings, refusal, tuple(files), is_mendable)


@contextmanager
def few_words(least: int = logging.WARNING) -> Iterator[None]:
    """Keeps from the log what reading says below this level, such as a line for every gap: the report lists them."""
    reading = logging.getLogger("data_prep.reading")
    level = reading.level
    reading.setLevel(least)
    try:
        yield
    finally:
        reading.setLevel(level)


def _joined(paths: Sequence[Location], files: Sequence[FileReport], section: dict[str, Any]) -> Inputs | None:
    """The files as preparation opens them; ``None`` where they hold one time.

    Raises:
      DataError: what preparation would say of the files together.
    """
    if record_times(files).size < 2:
        return None
    with few_words():
        return open_canonical(paths, DataConfig.model_validate({**section, "repair": ["duplicates"]}))


def _judged_by_step(files: Sequence[FileReport], inputs: Inputs) -> list[FileReport]:
    """The files, errors of fields that no step reads as warnings: of others than sums, between the model's times."""
    if all(segment.stride == 1 for segment in inputs.segments):
        return list(files)
    read = np.unique(np.concatenate([segment.times for segment in inputs.segments]))
    text = f"; steps of {clock.hours(inputs.timestep):g} h leave it out"

    def judged(finding: Finding) -> Finding:
        if finding.severity != "error" or finding.first is None or is_accumulation(finding.channel):
            return finding
        if ((read >= finding.first) & (read <= finding.last)).any():
            return finding
        return replace(finding, severity="warning", text=finding.text + text)

    return [
        replace(file, fields=tuple(replace(r, findings=tuple(map(judged, r.findings))) for r in file.fields))
        for file in files
    ]


def _undated(files: Sequence[FileReport]) -> str | None:
    """What is wrong with a record of which no file knows its time, as those that carry the date in their names."""
    if record_times(files).size:
        return None
    differing = {n for n, reports in by_variable(files).items() if len({(r.low, r.high) for r in reports}) > 1}
    for file in files:
        for report in file.fields:
            if report.found.name in differing:
                return (
                    f"{file.source.path}: {report.found.raw_name} has no time, and in other files it differs: give "
                    "each file its date as a coordinate 'time', in time units such as 'days since 2000-01-01'"
                )
    return None


def _missing_of_the_state(files: Sequence[FileReport], section: dict[str, Any]) -> str | None:
    """What preparation would say of values that are missing where they are to be predicted."""
    for file in files:
        for report in file.fields:
            predicted = section["prognostic"].get(report.found.name)
            if predicted is None:
                continue
            if report.lacking or not set(report.sparse).isdisjoint(predicted.get("levels", report.found.levels)):
                what = (
                    f"{file.source.path}: {report.found.raw_name} is missing in {percent(report.missing)} of its points"
                )
                if is_lacking(by_variable(files)[report.found.name]):
                    return f"{what}, and no other variable can be predicted; fill these, or cut out a region without"
                return f"{what}, in other files it is not; fill these, or leave its times out by data.exclude"
    return None


def _defects(files: Sequence[FileReport]) -> str | None:
    """What preparation would say of the defects of files that it can open."""
    errors = [(file.source.path, f) for file in files for f in findings_of(file) if f.severity == "error"]
    if not errors:
        return None
    path, first = errors[0]
    at = f" at {clock.text(first.first)}" if first.first is not None else ""
    count = f"the first of {len(errors)} defects" if len(errors) > 1 else "a defect"
    remedy = {
        "duplicate": "",  # which the finding says
        "flipped latitudes": "data.repair: [flipped_latitudes] turns them back",
        "unit slip": "or data.repair: [unit_slips] converts them",
    }.get(first.kind, "mend the files, or leave the times out by data.exclude")
    return f"{path}: {count}: {first.channel}{at}: {first.kind}, {first.text}{'; ' * bool(remedy)}{remedy}"
