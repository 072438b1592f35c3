"""Speed options change nothing they should not: hoisted constants, reuse by content, step caches, placement."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny import clip, own_config, pipeline, small_config
from torch import Tensor

from instructx_core.errors import InputError
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.encode import Contexts, PictureLatents
from instructx_core.speed.constants import Constants, constants_of
from instructx_core.speed.reuse import Reuse, content_key, weights_key
from instructx_core.speed.step_cache import StepCache, record_magnitudes


@pytest.fixture(scope="module")
def pipe():
    return pipeline(own_config())


def edit(pipe, seed: int = 0, steps: int = 3, **options) -> Tensor:
    given = {"source": clip(), "instruction": "make the circle blue", "output_type": "latent", **options}
    generator = torch.Generator().manual_seed(seed)
    return pipe(num_inference_steps=steps, generator=generator, return_dict=False, **given)[0]


def calls_of(module: torch.nn.Module) -> list[int]:
    """Counts forwards from now on: calls_of(m)[0]."""
    count = [0]

    def hook(*_: object) -> None:
        count[0] += 1

    module.register_forward_hook(hook)
    return count


# --- constants -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_constants_are_computed_once_and_change_nothing(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline(own_config())
    reference = clip(1, 40, 40, seed=3)[0]
    options = {"guidance_scale": guidance, "reference": reference}
    counted = {
        "source": calls_of(pipe.transformer.source_embedder),
        "reference": calls_of(pipe.transformer.reference_embedder),
        "key": calls_of(pipe.transformer.blocks[1].attn2.to_k),
        "value": calls_of(pipe.transformer.blocks[1].attn2.to_v),
        "query": calls_of(pipe.transformer.blocks[1].attn2.to_q),
    }
    hoisted = edit(pipe, **options)
    branches = 1 if guidance == 1.0 else 2
    assert [counted[name][0] for name in ("source", "reference", "key", "value")] == [1, 1, branches, branches]
    assert counted["query"][0] == 3 * branches
    assert pipe.transformer.constants is None
    assert type(pipe.transformer.blocks[0].attn2.processor).__name__ == "WanAttnProcessor"
    monkeypatch.setattr("instructx_core.speed.constants.is_compiled", lambda model: True)
    assert torch.equal(edit(pipe, **options), hoisted)
    assert counted["key"][0] == branches + 3 * branches


def test_constants_follow_a_changed_tensor() -> None:
    store, source = Constants(), torch.zeros(2)
    assert store.get("a", source, lambda: source + 1) is store.get("a", source, lambda: source + 1)
    source += 1
    assert float(store.get("a", source, lambda: source + 1)[0]) == 2.0
    assert float(store.get("a", torch.ones(2) * 5, lambda: torch.ones(1) * 7)[0]) == 7.0


def test_few_context_tokens_are_not_kept(pipe) -> None:
    """Where keys and values are below 1 % of the work they are not worth their memory."""
    model, key = pipe.transformer, calls_of(pipe.transformer.blocks[0].attn2.to_k)
    noisy, context = torch.randn(1, 16, 3, 8, 8), torch.randn(1, 2, model.config.num_attention_heads * 128)
    with torch.no_grad(), constants_of(model):
        for _ in range(2):
            model(noisy, torch.tensor([500.0]), context)
    assert noisy.shape[2] * 16 > 16 * context.shape[1] and key[0] == 2
    with constants_of(model) as store:
        assert store is None  # gradients are on: training computes everything


# --- reuse ---------------------------------------------------------------------------------------------------------


def test_another_seed_encodes_nothing_again(tmp_path) -> None:
    pipe = pipeline(small_config())
    plain = [edit(pipe, seed) for seed in (0, 1)]
    pipe.enable_reuse(tmp_path)
    counted = calls_of(pipe.encoder)
    assert torch.equal(edit(pipe, 0), plain[0]) and torch.equal(edit(pipe, 1), plain[1])
    assert counted[0] == 1 and (pipe.reuse.hits, pipe.reuse.misses) == (2, 2)
    pipe.enable_reuse(tmp_path)  # a new run finds the files
    assert torch.equal(edit(pipe, 1), plain[1]) and counted[0] == 1
    edit(pipe, instruction="remove it")
    assert counted[0] == 2
    changed = clip()
    changed[0, 0, 0, 0] ^= 1
    edit(pipe, source=changed)
    assert counted[0] == 3
    with torch.no_grad():
        pipe.encoder.queries["video"].add_(0.1)
    assert not torch.equal(edit(pipe, 1), plain[1]) and counted[0] == 4


def test_a_damaged_file_is_made_again(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    made = Contexts(torch.arange(4.0))
    store = Reuse(tmp_path)
    store.get("k", Contexts, lambda: made, "cpu")
    (path,) = tmp_path.iterdir()
    with safe_open(str(path), "pt") as file:
        assert list(file.keys()) == ["positive"]
    path.write_bytes(path.read_bytes()[:-3])
    again = Reuse(tmp_path).get("k", Contexts, lambda: made, "cpu")
    assert again is made and "made again" in caplog.text
    found = Reuse(tmp_path).get("k", Contexts, lambda: pytest.fail("not found"), "cpu")
    assert torch.equal(found.positive, made.positive) and found.negative is None
    caplog.clear()
    other = PictureLatents(torch.zeros(1))
    assert Reuse(tmp_path).get("k", PictureLatents, lambda: other, "cpu") is other and "made again" in caplog.text


def test_memory_keeps_the_last_few() -> None:
    store = Reuse(entries=2)
    for key in "aabcab":
        store.get(key, Contexts, lambda: Contexts(torch.zeros(1)), "cpu")
    assert (store.hits, store.misses) == (1, 5)
    with pytest.raises(InputError, match="at least 1"):
        Reuse(entries=0)


def test_keys_tell_contents_apart() -> None:
    parts = [
        torch.zeros(2, 3),
        torch.zeros(3, 2),
        torch.zeros(2, 3, dtype=torch.bfloat16),
        "0",
        0,
        0.0,
        False,
        None,
        [],
        [[]],
    ]
    assert len({content_key(part) for part in parts}) == len(parts)
    assert content_key("ab", "c") != content_key("a", "bc") and content_key([1], 2) != content_key([1, 2])
    layer = torch.nn.Linear(3, 3)
    first = weights_key(layer)
    assert weights_key(layer) == first
    with torch.no_grad():
        layer.bias[0] += 1
    assert weights_key(layer) != first


# --- step caches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["first-block:1000", "taylorseer:3"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_caches_skip_blocks_and_leave_nothing_behind(kind: str, guidance: float) -> None:
    pipe = pipeline(own_config())
    plain = edit(pipe, steps=8, guidance_scale=guidance)
    counted = calls_of(pipe.transformer.blocks[1].attn1.to_q)
    pipe.enable_cache(kind)
    cached = edit(pipe, steps=8, guidance_scale=guidance)
    branches = 1 if guidance == 1.0 else 2
    assert 0 < counted[0] < 8 * branches and torch.isfinite(cached).all()
    assert torch.equal(edit(pipe, steps=8, guidance_scale=guidance), cached)  # no state from the run before
    pipe.disable_cache()
    assert torch.equal(edit(pipe, steps=8, guidance_scale=guidance), plain)


def test_a_tight_threshold_changes_nothing(pipe) -> None:
    plain = edit(pipe)
    pipe.enable_cache("first-block:1e-9")
    try:
        assert torch.equal(edit(pipe), plain)
    finally:
        pipe.disable_cache()


def test_mag_measures_once_then_skips() -> None:
    pipe = pipeline(own_config())
    plain = edit(pipe, steps=10)
    pipe.enable_cache("mag:1000")
    counted = calls_of(pipe.transformer.blocks[1].attn1.to_q)
    assert torch.equal(edit(pipe, steps=10), plain) and counted[0] == 10  # the first one measures
    ratios = pipe.step_cache.magnitudes[10]
    assert len(ratios) == 10 and ratios[0] == 1.0
    edit(pipe, steps=10)
    assert counted[0] < 20
    with torch.no_grad(), record_magnitudes(pipe.transformer, branches=2) as twice:
        for timestep in (900.0, 500.0):
            for _ in range(2):
                pipe.transformer(torch.ones(1, 16, 1, 4, 4), torch.tensor([timestep]), torch.ones(1, 4, 256))
    assert len(twice) == 2


@pytest.mark.parametrize(
    ("kind", "message"), [("first-block", "2 edits together would not be"), ("mag", "run one edit alone first")]
)
def test_a_batch_is_refused_where_the_cache_would_decide_for_all_of_it(kind: str, message: str) -> None:
    pipe, clips = pipeline(own_config()), [clip(1, 32, 32), clip(1, 32, 32, seed=1)]
    pipe.enable_cache(kind)
    with pytest.raises(InputError, match=message):
        pipe(clips, ["a", "b"], num_inference_steps=3, output_type="latent")
    pictures = pipe.encode_pictures(edit_batch(clips, ["a", "b"]))
    conditions = pipe.conditions(Contexts(torch.zeros(2, 4, 256)), pictures)
    with pytest.raises(InputError, match=message):
        pipe.denoise(torch.zeros_like(pictures.source), conditions, 3)


def test_taylorseer_leaves_the_same_steps_out_of_a_batch_and_of_each_edit() -> None:
    pipe, clips = pipeline(own_config()), [clip(1, 32, 32), clip(1, 32, 32, seed=1)]
    pipe.enable_cache("taylorseer:3")

    def noise(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    both = pipe(clips, ["a", "b"], generator=[noise(0), noise(1)], num_inference_steps=8, output_type="latent").frames
    for index, (frames, text) in enumerate(zip(clips, "ab", strict=True)):
        alone = pipe(frames, text, generator=noise(index), num_inference_steps=8, output_type="latent").frames
        torch.testing.assert_close(both[index : index + 1], alone, rtol=1e-4, atol=1e-4)


def test_words_of_the_cache_option() -> None:
    assert StepCache.parse("first-block") == StepCache("first-block", 0.05)
    assert StepCache.parse("mag:0.1").threshold == 0.1
    for text in ("teacache", "mag:much", "first-block:0", "taylorseer:1", "taylorseer:2.5"):
        with pytest.raises(InputError, match=r"use one of|no number|must be"):
            StepCache.parse(text)


# --- placement -----------------------------------------------------------------------------------------------------


def test_group_offload_and_fp8() -> None:
    pipe = pipeline(own_config())
    plain = edit(pipe)
    pipe.place("group", torch.device("cpu"))
    assert torch.equal(edit(pipe), plain)
    small = pipeline(own_config())
    small.place("none", torch.device("cpu"), fp8=True)
    block = small.transformer.blocks[0]
    assert (
        block.ffn.net[2].weight.dtype == torch.float8_e4m3fn
        and small.transformer.proj_out.weight.dtype == torch.float32
    )
    close = edit(small)
    assert (
        not torch.equal(close, plain)
        and torch.nn.functional.cosine_similarity(close.flatten(), plain.flatten(), 0) > 0.99
    )
    for offload, message in (("disk", "use one of"), ("model", "leave it out on the CPU")):
        with pytest.raises(InputError, match=message):
            small.place(offload, torch.device("cpu"))


def test_the_encoder_leaves_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model offload: a part's hook sends the part before it in the chain away, so order and chain say who leaves when.

    On the CPU nothing moves, so the hooks are watched instead of the memory.
    """
    from accelerate.hooks import CpuOffload

    pipe, ran = pipeline(own_config()), list[str]()
    part_of = {id(getattr(pipe, name)): name for name in ("encoder", "transformer", "vae")}
    enter = CpuOffload.pre_forward

    def watched(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        ran.append(part_of[id(module)])
        return enter(self, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", watched)
    pipe.enable_model_cpu_offload(device=torch.device("cpu"))
    edit(pipe)
    first = ran.index("transformer")
    assert "encoder" in ran[:first] and "encoder" not in ran[first:]
    assert pipe.transformer._hf_hook.prev_module_hook.model is pipe.encoder
