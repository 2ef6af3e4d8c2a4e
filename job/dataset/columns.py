"""The columns of a dataset: are they there, and which do the results have?"""

from collections.abc import Sequence

import pyarrow as pa

from job.errors import DatasetError
from job.settings import DataSettings


def check_dropped_columns(settings: DataSettings, schema: pa.Schema) -> None:
    columns = f"The columns are: {', '.join(schema.names)}."
    for name in settings.drop_columns:
        if name not in schema.names:
            raise DatasetError(f"DROP_COLUMNS={name}: no such column. {columns}")


def check_instruction_column(settings: DataSettings, schema: pa.Schema) -> None:
    """Raises: DatasetError where INSTRUCTION_COLUMN is missing or is not text."""
    name = settings.instruction_column
    if name not in schema.names:
        raise DatasetError(f"INSTRUCTION_COLUMN={name}: no such column. The columns are: {', '.join(schema.names)}.")
    kind = schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DatasetError(f"INSTRUCTION_COLUMN={name}: holds {kind}, not text. Choose a text column.")


def extended(schema: pa.Schema, kept: Sequence[str], added: pa.Schema) -> pa.Schema:
    """The schema of the results: the kept source columns with their features, then the added ones."""
    from datasets import Features

    features = Features.from_arrow_schema(schema)
    joined = {name: features[name] for name in kept} | dict(Features.from_arrow_schema(added))
    extended_schema: pa.Schema = Features(joined).arrow_schema
    return extended_schema
