"""The paper's models as players: transformers and diffusers classes, weights by path, nothing fetched (A.2)."""
