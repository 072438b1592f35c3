"""Names in public files -> ours: DiT, VAE, Qwen, adapter, Kiwi-Edit, LoRA. Every reader takes an opened WeightFile."""
