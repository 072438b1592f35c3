"""A MODEL of the host that takes source, references and context: the patch of its DiT, and what the memory must count.

Source and Reference patches the MODEL that any loader gave; denoiser_patch.py does the work in the sampler.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .denoiser_patch import DenoiserPatch
from .graph_checks import check_foreign, check_model, explain_width
from .keys import KEY, REFERENCES

if TYPE_CHECKING:
    from .dit_adapter import DitAdapter


def reference_count(conds: Mapping[str, Any]) -> int:
    """Most reference frames in one conditioning of the sampler's {"positive": [...], "negative": [...]}."""
    shapes = [cond[REFERENCES].shape for group in conds.values() for cond in group or () if REFERENCES in cond]
    return max((shape[2] for shape in shapes), default=0)


def prepare_sampling(executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
    """PREPARE_SAMPLING wrapper: refuses entries that the model would ignore, and counts references.

    The host's memory estimate knows the video only, reference frames cost as much. They are counted as extra height,
    because the host's context windows clip the frame axis before or after us.
    """
    check_foreign(conds, model.get_model_object("diffusion_model"))
    extra = reference_count(conds)
    if extra and len(noise_shape) == 5:
        options = kwargs.get("model_options") or {}
        handler = options.get("context_handler")
        frames = noise_shape[2] if handler is None else min(noise_shape[2], handler.context_length)
        noise_shape = list(noise_shape)
        noise_shape[3] = -(-noise_shape[3] * (frames + extra) // frames)
    return executor(model, noise_shape, conds, *args, **kwargs)


def patch_model(model: Any, adapter: DitAdapter) -> Any:
    """A clone of the MODEL that takes source, references and context; patching it again replaces the patch.

    Raises InputError when model and adapter do not fit.
    """
    from .host_model import wrapper_kinds

    check_model(model, adapter)
    kinds = wrapper_kinds()
    patched = model.clone()
    patch = DenoiserPatch(adapter)
    for kind, wrapper in ((kinds.DIFFUSION_MODEL, patch), (kinds.PREPARE_SAMPLING, prepare_sampling)):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    hook = model.get_model_object("diffusion_model").text_embedding.register_forward_pre_hook(explain_width)
    weakref.finalize(patch, hook.remove).atexit = False  # the DiT is shared: it comes off with the last patched clone
    counted = tuple(patched.get_model_object("memory_usage_factor_conds"))
    if REFERENCES not in counted:  # when the host decides how many conditionings fit into one batch
        patched.add_object_patch("memory_usage_factor_conds", (*counted, REFERENCES))
    return patched


def is_patched(model: Any) -> bool:
    """Whether MODEL came out of Source and Reference."""
    from .host_model import wrapper_kinds

    return bool(model.get_wrappers(wrapper_kinds().DIFFUSION_MODEL, KEY))
