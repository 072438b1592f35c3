"""What our conditioning carries so that a model without our patch names the remedy, and not a matrix product.

The host shows every hook of a conditioning to the model before it samples; this one changes nothing and looks.
"""

from __future__ import annotations

import functools
from typing import Any

from .keys import SOURCE_NODE
from .model_patch import is_patched


@functools.cache
def only_patched() -> Any:
    """A HookGroup for the key "hooks" of a conditioning; always the same, so that the host batches its carriers."""
    from comfy.hooks import HookGroup, TransformerOptionsHook

    class OnlyPatched(TransformerOptionsHook):
        """Raises ValueError on a MODEL that did not come out of Source and Reference."""

        def add_hook_patches(self, model: Any, *others: Any) -> bool:
            if not is_patched(model):
                raise ValueError(
                    "this conditioning needs a patched MODEL; connect the MODEL, positive and negative of "
                    f"{SOURCE_NODE} to the sampler"
                )
            return False

        def on_apply_hooks(self, model: Any, transformer_options: dict[str, Any]) -> None:
            """Nothing to apply."""

    group = HookGroup()
    group.add(OnlyPatched())
    return group
