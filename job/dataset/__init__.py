"""Edge: the source rows, from the Hub or from local files, at a known commit. The only import of `datasets`.

- loading, files: `datasets` converts whatever it reads into Arrow files, once
- rows: those files as a stream
- columns: are they there?
- refusals: what goes wrong, in this job's own errors
- published: the results as their readers see them
"""

from job.dataset.columns import check_instruction_column, extended
from job.dataset.files import check_files
from job.dataset.loading import open_rows
from job.dataset.published import count_rows, dataset_info
from job.dataset.rows import CHUNK_ROWS, SourceRows

__all__ = [
    "CHUNK_ROWS",
    "SourceRows",
    "check_files",
    "check_instruction_column",
    "count_rows",
    "dataset_info",
    "extended",
    "open_rows",
]
