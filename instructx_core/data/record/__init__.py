"""One edit as a file says it, before anything is decoded: the record, where its files lie, why it cannot be used.

Below all of data: readers make records, everything else reads them.
"""

from .edit_record import MEDIA, MODALITIES, EditRecord, Locator, from_json

__all__ = ["MEDIA", "MODALITIES", "EditRecord", "Locator", "from_json"]
