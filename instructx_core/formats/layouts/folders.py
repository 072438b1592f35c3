"""The folder of one model in ComfyUI's layout: which part lies where. Imports no other file: anyone may ask.

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
TOKENIZER_PAIR = ("vocab.json", "merges.txt")  # of the model hub, in place of tokenizer.json
CONFIG_FILE = "config.json"  # beside the weights of one module
# Folders of ComfyUI's with whole checkpoints in them: files, and folders of diffusers.
CHECKPOINTS, DIFFUSERS = "checkpoints", "diffusers"
# All folders of ComfyUI's with something for us; unet and clip are older names.
SEARCHED = (*MODEL_FOLDERS, "unet", "clip", CHECKPOINTS, DIFFUSERS, "loras")

# A folder of diffusers: its index, its parts, the weights of a part.
DIFFUSERS_INDEX = "model_index.json"
DIFFUSERS_DIT, DIFFUSERS_VAE = "transformer", "vae"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
# A Kiwi-Edit folder of diffusers has these beside; in the first are Qwen, queries and connector.
KIWI_MLLM, KIWI_PROCESSOR = "mllm_encoder", "processor"
KIWI_SOURCE, KIWI_REFERENCE = "source_embedder", "ref_embedder"
