"""Public sets as they ship: a ColumnMap each. A new one is a line here, without code.

Names of columns were read in the sets' own pages, or in code that reads them, where `checked` says so; others are from
memory, and `columns` in a mixture changes them. opening.py names the formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ..record import EditRecord
from ..record.rejects import RejectedRecord
from .columns import ColumnMap, SetRow, as_record
from .rows import read_rows

SETS: dict[str, ColumnMap] = {
    "nhr_edit": ColumnMap(
        source="source_file_name",
        target="edited_file_name",
        instruction="edit_instruction",
        wordings="augmented_instructions",
        task="category",
        id="sample_id",
        files="**/metadata.jsonl",
        checked=True,
    ),
    "x2edit": ColumnMap("1.0", "2", "instruction", task="task", files="**/*.tar", checked=True),
    "gpt_image_edit": ColumnMap("image.0", "image.1", "conversations.0.value", modality="image", checked=True),
    "openve": ColumnMap("original_video", "video", "prompt", task="edited_type", files="**/*.csv", checked=True),
    "senorita": ColumnMap("source_video_path", "target_video_path", "enhanced_instruction", checked=True),
    "ditto": ColumnMap("source_path", "edited_path", "instruction", files="training_metadata/*.json", checked=True),
    "reco": ColumnMap(
        "src_video", "tar_video", "instruction_final_refine", files="**/*_data_configs.json", media="..", checked=True
    ),
    "kiwi_csv": ColumnMap("src_video", "tgt_video", "prompt", reference="ref_image", files="**/*.csv", checked=True),
    "kiwi_parquet": ColumnMap(
        source="src_video",
        target="tgt_video",
        instruction="prompt",
        reference="ref_image_bytes",
        id="iid",
        modality="video",
        files="**/*.parquet",
        checked=True,
    ),
    "omniedit": ColumnMap(
        source="src_img",
        target="edited_img",
        instruction="edited_prompt_list",
        task="task",
        id="omni_edit_id",
        files="**/*.parquet",
        checked=True,
    ),
    "ultraedit": ColumnMap(
        source="source_image",
        target="edited_image",
        instruction="edit_prompt",
        mask="mask_image",
        files="**/*.parquet",
        checked=True,
    ),
    "webdataset": ColumnMap(
        source="source",
        target="target",
        instruction="instruction",
        task="task",
        reference="reference",
        mask="mask",
        id="id",
        files="**/*.tar",
        checked=True,
    ),
    "table": ColumnMap(
        "source", "target", "instruction", task="task", reference="reference", mask="mask", id="id", files="*.csv"
    ),
}


def read_published(path: Path, columns: ColumnMap) -> Iterator[EditRecord | RejectedRecord]:
    """Raises InputError for a path without any table, and for a table without a column that is needed."""
    for row in read_rows(path, columns):
        if not isinstance(row, SetRow):
            yield row
            continue
        try:
            yield as_record(row, columns)
        except InputError as error:
            yield RejectedRecord(row.name, str(error), str(path))
