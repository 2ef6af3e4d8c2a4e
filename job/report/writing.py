"""The order of work: results -> checks -> rows -> one HTML file, which appears whole or not at all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from job.disk import move_whole, open_new
from job.errors import DatasetError, OutputError, Problem, SettingsError
from job.report import page
from job.report.comparison import differences, warnings
from job.report.figures import figures
from job.report.pages import Pages
from job.report.rows import check_files, rows
from job.report.runs import Run, labelled
from job.report.sources import VARIABLE, Hub, folder_of, manifest_of


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    path: Path
    runs: Sequence[str]
    rows: int
    bytes: int
    warnings: Sequence[str]


def write_report(references: Sequence[str], output: Path, connect: Callable[[], Hub]) -> Report:
    """Compare the results that the references name.

    Raises: SettingsError for what is no results or is named twice; DatasetError for a run that is not finished, or where the
    runs answered different splits; OutputError where a file is damaged or the report cannot be written; those of the Hub.
    """
    folders = [folder_of(reference, connect) for reference in references]
    runs = labelled([Run(reference, manifest_of(folder)) for reference, folder in zip(references, folders, strict=True)])
    check(runs, folders)
    for folder, run in zip(folders, runs, strict=True):
        check_files(folder, run.manifest)
    return _written(runs, folders, output)


def check(runs: Sequence[Run], folders: Sequence[Path]) -> None:
    """Raises: SettingsError where results are given twice, DatasetError where they are of different splits."""
    seen: dict[object, str] = {}
    for run, folder in zip(runs, folders, strict=True):
        for same in (folder, (run.manifest.identity.digest, run.manifest.files_digest)):
            if seen.setdefault(same, run.reference) != run.reference or list(folders).count(folder) > 1:
                message = f"the same results as {seen[same]}: name each only once"
                raise SettingsError([Problem(VARIABLE, run.reference, message)])
    splits = {run.manifest.split: run.reference for run in reversed(runs)}
    if len(splits) > 1:
        told = "; ".join(f"{reference}: {config}/{split}" for (config, split), reference in splits.items())
        raise DatasetError(f"the results are of different splits ({told}): compare runs with the same DATASET_SPLIT.")


def _written(runs: Sequence[Run], folders: Sequence[Path], output: Path) -> Report:
    pages = Pages(len(runs))
    told: list[str] = []

    def parts() -> Iterator[str]:
        yield page.head("Answers side by side")
        yield from page.blocks(pages.of(rows(folders, [run.manifest for run in runs])))
        found = differences(runs)
        told.extend(warnings(runs, found, pages.mismatches))
        first = runs[0].manifest
        summary = page.Summary(first.dataset.name, first.split[1], pages.rows, figures(runs), found, told)
        yield page.body(summary, pages.index())

    _write_whole(output, parts())
    return Report(output, [run.label for run in runs], pages.rows, output.stat().st_size, told)


def _write_whole(output: Path, parts: Iterable[str]) -> None:
    """Write the parts as they come; the file appears when all of them are in it."""
    half_made = output.with_name(f"{output.name}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with open_new(half_made) as file:
            for part in parts:
                file.write(part.encode("utf-8", "replace"))
        move_whole(half_made, output)
    except OSError as error:
        raise OutputError(
            f"{output}: {error.strerror or error}. Make room, or name another file with --output (REPORT, with make)."
        ) from error
    finally:
        with suppress(OSError):
            half_made.unlink(missing_ok=True)
