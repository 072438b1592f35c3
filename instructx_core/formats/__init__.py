"""Files that artists have -> one internal naming, one loader, one report.

open_source reads any file as stored; dequantised turns fp8, fp8_scaled and GGUF into plain tensors; dit, vae, encoder,
kiwi and adapter know the layouts; lora adds LoRAs of the DiT; identify says what a file is.
"""

from __future__ import annotations

from .containers.opening import open_source, open_sources
from .containers.quantised import dequantised
from .containers.tensor_source import TensorSource
from .telling.report import LoadReport

__all__ = ["LoadReport", "TensorSource", "dequantised", "open_source", "open_sources"]
