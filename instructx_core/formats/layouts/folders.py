"""The folder of one model in ComfyUI's layout: which part lies where. Imports no other file, so that anyone may ask.

<folder>/diffusion_models/X.safetensors  the DiT, original Wan names: any Wan loader takes it
         vae/X.safetensors               the VAE, original Wan names
         text_encoders/X.safetensors     Qwen2.5-VL, names of its original repository (model.*, visual.*)
         model_patches/X.safetensors     the adapter: queries, connector, own embedders, LoRA of the MLLM
         tokenizer.json
"""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "tiny"  # the tiny model that comes with the package
FOLDERS = {
    "denoiser": "diffusion_models",
    "vae": "vae",
    "text_encoder": "text_encoders",
    "adapter": "model_patches",
}
MODEL_FOLDERS = tuple(FOLDERS.values())
TOKENIZER_FILE = "tokenizer.json"
PARTS = (*FOLDERS, "tokenizer")
# Folders of ComfyUI's with whole checkpoints in them: files, and folders of diffusers.
CHECKPOINTS, DIFFUSERS = "checkpoints", "diffusers"
# Folders inside a Kiwi-Edit diffusers folder.
KIWI_DIT, KIWI_VAE, KIWI_MLLM = "transformer", "vae", "mllm_encoder"
KIWI_EMBEDDERS = ("source_embedder", "ref_embedder")
