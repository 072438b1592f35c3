"""The forms that `instructx convert` writes, one file a form: names, fp8, the adapter, a LoRA merged."""
