"""Files that artists have -> one internal naming, one loader, one report.

open_source reads any file as stored; dequantised turns fp8, fp8_scaled and GGUF into plain tensors; dit, vae, encoder,
kiwi and adapter know the layouts; lora adds LoRAs of the DiT; identify says what a file is.
"""

from __future__ import annotations

from .quantised import dequantised
from .report import LoadReport
from .source import open_source, open_sources
from .tensor_source import TensorSource

__all__ = ["LoadReport", "TensorSource", "dequantised", "open_source", "open_sources"]
