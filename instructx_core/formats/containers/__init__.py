"""Bytes on disk -> named tensors: safetensors, GGUF, shards, quantised numbers. Knows no model."""
