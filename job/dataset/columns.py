"""The columns of a dataset: are they there, and which do the results have?"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from job.dataset.rows import SourceRows
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


def check_contents(settings: DataSettings, rows: SourceRows) -> None:
    """Raises: DatasetError where images and the like are mere paths of this machine: the results would lead nowhere elsewhere.

    They are not read in here: a dataset may name any file of this machine, and the results are published.
    """
    from datasets import Features
    from datasets.features.features import require_storage_embed

    features = Features.from_arrow_schema(rows.schema)
    names = [name for name in features if name not in settings.drop_columns and require_storage_embed(features[name])]
    for table in rows.tables(names) if names else ():
        for name in names:
            if any(_has_mere_paths(chunk) for chunk in table[name].chunks):
                dropped = ",".join([*settings.drop_columns, name])
                raise DatasetError(
                    f"DATASET_ID={settings.dataset_id}: column {name} holds paths of files on this machine, not their content. "
                    f"Leave it out with DROP_COLUMNS={dropped}, or publish the dataset with push_to_hub, which puts them in."
                )


def _has_mere_paths(array: Any) -> bool:
    """Of arrays as `datasets` stores images; addresses on the web lead somewhere for everyone."""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return _has_mere_paths(array.flatten())
    if not pa.types.is_struct(array.type):
        return False
    fields = dict(zip((field.name for field in array.type), array.flatten(), strict=True))
    if fields.keys() >= {"bytes", "path"}:
        mere_paths = fields["path"].filter(pc.is_null(fields["bytes"])).drop_null()
        return not pc.all(pc.match_substring(mere_paths, "://"), min_count=0).as_py()
    return any(_has_mere_paths(field) for field in fields.values())


def extended(schema: pa.Schema, kept: Sequence[str], added: pa.Schema) -> pa.Schema:
    """The schema of the results: the kept source columns with their features, then the added ones."""
    from datasets import Features

    features = Features.from_arrow_schema(schema)
    joined = {name: features[name] for name in kept} | dict(Features.from_arrow_schema(added))
    extended_schema: pa.Schema = Features(joined).arrow_schema
    return extended_schema
