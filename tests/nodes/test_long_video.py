"""Long Video on the host's real sampler and VAE: length and sound, hand-over, progress, Cancel and going on.

The shipped tiny model, as an artist's graph loads it. Two steps: how good the edits are is measured elsewhere.
"""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui

SETTINGS = {
    "seed": 3, "steps": 2, "cfg": 1.0, "shift": 3.0, "sampler_name": "euler", "scheduler": "instructx", "window": 9,
    "resize": "crop", "overlap": 1, "context": "window", "match_colour": False, "joins": "smooth",
}  # fmt: skip
TEXT = "make the circle blue"


@pytest.fixture(scope="module")
def module(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.long_video")


@pytest.fixture(scope="module")
def runs(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.parts.window_run")


@pytest.fixture(scope="module")
def loaded(comfy: Any, pack: Callable[[str], ModuleType], shipped: Any) -> Any:
    """(MODEL, VAE, encoder) by the pack's and the host's loaders."""
    from comfy import sd, utils

    files = {folder: next((shipped / folder).glob("*.safetensors")) for folder in ("vae", "diffusion_models")}
    name = files["vae"].name
    loader = pack("nodes.load_encoder").InstructXLoadEncoder
    (encoder,) = loader.execute(encoder=name, adapter=name, dtype="fp32", device="cpu").args
    model = sd.load_diffusion_model(str(files["diffusion_models"]), model_options={"dtype": torch.float32})
    return model, sd.VAE(sd=utils.load_torch_file(str(files["vae"])), dtype=torch.float32), encoder


@pytest.fixture(autouse=True)
def folders(comfy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))


@pytest.fixture
def video(tmp_path: Path) -> Any:
    """A clip of 22 frames as LoadVideo gives it."""
    from comfy_api.input_impl import VideoFromFile

    from instructx_core.media.files import write_video
    from instructx_core.shapes import sample

    frames = sample("test", 6, "video", "color").source_FHWC
    path = tmp_path / "clip.mp4"
    write_video(path, np.concatenate([frames, frames[:5]]), Fraction(24000, 1001))
    return VideoFromFile(str(path))


def run(module: ModuleType, loaded: Any, video: Any, **options: Any) -> Any:
    """The node in a graph of one node, whose widgets are the options."""
    settings = {**SETTINGS, **options}
    graph = {"7": {"class_type": "InstructXLongVideo", "inputs": {"instruction": TEXT, **settings}}}
    module.InstructXLongVideo.hidden = SimpleNamespace(unique_id="7", prompt=graph)
    with torch.inference_mode():
        return module.InstructXLongVideo.execute(*loaded, video, TEXT, **settings)


def frames_of(output: Any) -> np.ndarray:
    return (output.args[0].get_components().images * 255.0).round().to(torch.uint8).numpy()


def test_schema(module: ModuleType) -> None:
    schema = module.InstructXLongVideo.define_schema()
    assert schema.node_id == "InstructXLongVideo" and schema.category == "InstructX"
    assert all(entry.tooltip for entry in (*schema.inputs, *schema.outputs))
    assert {entry.id for entry in schema.inputs} >= set(SETTINGS)


def test_file_in_file_out(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly as many frames, the same rate; progress over all windows with a preview after each; nothing left over."""
    told: list[tuple[int, int, bool]] = []

    class Bar:
        def update_absolute(self, value: int, total: int, preview: Any = None) -> None:
            told.append((value, total, preview is not None and preview[1].size == (64, 64)))

    monkeypatch.setattr(runs, "progress_bar", lambda total: Bar())
    output = run(module, loaded, video)
    parts = output.args[0].get_components()
    assert parts.images.shape == (22, 64, 64, 3) and parts.frame_rate == Fraction(24000, 1001)
    assert [entry[:2] for entry in told] == [(1, 6), (2, 6), (2, 6), (3, 6), (4, 6), (4, 6), (5, 6), (6, 6), (6, 6)]
    assert all(told[i][2] for i in (2, 5, 8)), "each finished window is shown"
    assert "22 frames at 23.976 fps in 3 window(s)" in output.ui["text"][0] and "they differ by" in output.ui["text"][1]
    assert [p.suffix for p in (tmp_path / "temp").iterdir()] == [".mp4"]


def test_fewer_frames_are_edited_and_all_come_back(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half the rate: the encoder hears of it, each edited frame is the window's, those between lie near both."""
    given: list[np.ndarray] = []
    edit = runs.WindowRun.edit

    def watched(self: Any, given_FHWC: np.ndarray, window: Any) -> np.ndarray:
        given.append(edit(self, given_FHWC, window))
        return given[-1]

    monkeypatch.setattr(runs.WindowRun, "edit", watched)
    output = run(module, loaded, video, edit_fps=12.0, joins="plain")
    frames = frames_of(output)
    assert len(frames) == 22 and [len(made) for made in given] == [9, 4]
    assert any("12 of the 22 frames are edited" in text for text in output.ui["text"])
    made = np.concatenate([given[0], given[1][1:]])
    assert np.abs(frames[[*range(0, 21, 2), 21]].astype(int) - made).mean() < 3, "but for the compression"
    ends = [frames[0:20:2].astype(int), frames[2:21:2].astype(int)]
    assert np.abs(frames[1:20:2] - (ends[0] + ends[1]) / 2).mean() < 6


def test_the_model_says_how_long_a_window_is(module: ModuleType, loaded: Any, video: Any) -> None:
    """The input's default, which no workflow needs to know: five seconds, at most the length in the model's config."""
    window = next(entry for entry in module.InstructXLongVideo.define_schema().inputs if entry.id == "window")
    assert loaded[2].config.sampling.frames == 17 and window.default == 1
    output, asked = (run(module, loaded, video, window=frames, steps=1) for frames in (window.default, 17))
    assert "in 2 window(s)" in output.ui["text"][0] and output.ui["text"] == asked.ui["text"]
    assert np.array_equal(frames_of(output), frames_of(asked))


def test_each_window_starts_from_the_edited_tail(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[np.ndarray] = []
    made: list[np.ndarray] = []
    edit = runs.WindowRun.edit

    def watched(self: Any, given_FHWC: np.ndarray, window: Any) -> np.ndarray:
        given.append(given_FHWC.copy())
        made.append(edit(self, given_FHWC, window))
        return made[-1]

    monkeypatch.setattr(runs.WindowRun, "edit", watched)
    run(module, loaded, video, joins="plain")
    assert [len(clip) for clip in given] == [9, 9, 6]
    assert (given[1][0] == made[0][-1]).all() and (given[2][0] == made[1][-1]).all()
    assert (made[0] != given[0]).any()
    source = given[0]
    given.clear(), made.clear()
    run(module, loaded, video)
    assert [len(clip) for clip in given] == [9, 9, 8], "smooth: the frame behind the handed over one is edited by both"
    assert (given[1][0] == made[0][-2]).all() and (given[1][1] == source[-1]).all()


def test_the_head_stays_as_it_is(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """smooth: the sampled latent of the shared frame is its own encoding; plain: the model edits it again."""
    found: dict[str, list[float]] = {}
    sample = runs.sample_edit

    def watched(edit: Any, *others: Any) -> Any:
        image, sampled = sample(edit, *others)
        source = edit.latent["samples"]
        found.setdefault(joins, []).append(float((sampled - source)[:, :, 0].abs().max()))
        assert (sampled - source)[:, :, 1:].abs().max() > 0.1, "the frames behind it are edited"
        return image, sampled

    monkeypatch.setattr(runs, "sample_edit", watched)
    clips = {}
    for joins in module.JOINS:
        clips[joins] = frames_of(run(module, loaded, video, joins=joins))
    assert len(found["smooth"]) == len(found["plain"]) == 3
    assert max(found["smooth"][1:]) < 1e-5 < 0.1 < min(found["plain"]), found
    assert found["smooth"][0] == found["plain"][0] and (clips["smooth"] != clips["plain"]).any()


@pytest.mark.parametrize("joins", ["smooth", "plain"])
def test_same_as_the_library(
    module: ModuleType, loaded: Any, video: Any, shipped: Any, tmp_path: Path, joins: str
) -> None:
    """Same seed, same windows: the same clip up to rounding, which 8-bit hand-over and H.264 make larger (0.15)."""
    from instructx_core.editing.edit import edit_file
    from instructx_core.editing.windows.options import WindowOptions
    from instructx_core.media.files import read_media
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(shipped, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    path, options = tmp_path / "library.mp4", WindowOptions(frames=9, joins=joins)
    edit_file(pipe, video.get_stream_source(), TEXT, output=path, steps=2, seed=3, windows=options)
    ours = read_media(path).frames_FHWC
    theirs = read_media(run(module, loaded, video, joins=joins).args[0].get_stream_source()).frames_FHWC
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 0.3


@pytest.mark.parametrize("context", ["window", "first"])
def test_cancel_keeps_finished_windows(
    module: ModuleType,
    runs: ModuleType,
    loaded: Any,
    video: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
) -> None:
    """Cancelled in window 3: windows 1 and 2 are saved as a clip; the same graph goes on and ends the same."""
    from comfy.model_management import InterruptProcessingException

    from instructx_core.media.files import read_media

    whole = frames_of(run(module, loaded, video, context=context))
    edit = runs.WindowRun.edit
    monkeypatch.setattr(runs.WindowRun, "edit", _stop_at(edit, 2, InterruptProcessingException))
    with pytest.raises(InterruptProcessingException):
        run(module, loaded, video, context=context)
    kept = tmp_path / "output" / "InstructX_unfinished"
    (saved,) = kept.glob("*.mp4")
    assert len(read_media(saved).frames_FHWC) == 16, "9 and 7: two are shared"
    again: list[int] = []

    def counted(self: Any, given_FHWC: np.ndarray, window: Any) -> np.ndarray:
        again.append(window.index)
        return edit(self, given_FHWC, window)

    monkeypatch.setattr(runs.WindowRun, "edit", counted)
    output = run(module, loaded, video, context=context)
    assert again == [2] and "2 of them are finished already" in output.ui["text"]
    assert (frames_of(output) == whole).all()
    assert not kept.exists(), "nothing is left of a finished edit"
    again.clear()
    run(module, loaded, video, context=context)
    assert again == [0, 1, 2], "a finished clip is not taken for an unfinished one"


def test_after_cancel_nothing_holds_the_models(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are kept as files under a key: a MODEL that the host lets go is gone."""
    from comfy.model_management import InterruptProcessingException

    model, vae, encoder = loaded
    mine = model.clone()
    alive = weakref.ref(mine)
    monkeypatch.setattr(runs.WindowRun, "edit", _stop_at(runs.WindowRun.edit, 1, InterruptProcessingException))
    try:
        run(module, (mine, vae, encoder), video)
    except InterruptProcessingException:
        pass
    del mine
    gc.collect()
    assert alive() is None


def test_what_cannot_be_used_is_edited_again(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that somebody deleted, and leftovers of two weeks: said, removed, and never mixed in."""
    from comfy.model_management import InterruptProcessingException

    edit = runs.WindowRun.edit
    kept = tmp_path / "output" / "InstructX_unfinished"
    old = kept / ".0123456789abcdef.mp4.windows"
    old.mkdir(parents=True)
    long_ago = time.time() - 15 * 86400
    os.utime(old, (long_ago, long_ago))
    monkeypatch.setattr(runs.WindowRun, "edit", _stop_at(edit, 2, InterruptProcessingException))
    with pytest.raises(InterruptProcessingException):
        run(module, loaded, video)
    assert not old.exists()
    (folder,) = (path for path in kept.iterdir() if path.is_dir())
    (folder / "0001.mp4").unlink()
    monkeypatch.setattr(runs.WindowRun, "edit", edit)
    output = run(module, loaded, video)
    assert "finished already" not in str(output.ui["text"])
    assert "windows of an earlier run cannot be used, all are edited again" in output.ui["text"][1]


def _stop_at(edit: Any, index: int, error: type[BaseException]) -> Any:
    def stopped(self: Any, given_FHWC: np.ndarray, window: Any) -> np.ndarray:
        if window.index == index:
            raise error
        return edit(self, given_FHWC, window)

    return stopped


def test_other_settings_begin_anew(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy.model_management import InterruptProcessingException

    edit = runs.WindowRun.edit
    monkeypatch.setattr(runs.WindowRun, "edit", _stop_at(edit, 1, InterruptProcessingException))
    with pytest.raises(InterruptProcessingException):
        run(module, loaded, video)
    monkeypatch.setattr(runs.WindowRun, "edit", edit)
    output = run(module, loaded, video, seed=4)
    assert "finished already" not in str(output.ui["text"])


def test_another_source_begins_anew(
    module: ModuleType, runs: ModuleType, loaded: Any, video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same graph and file name, other pixels."""
    from comfy.model_management import InterruptProcessingException

    from instructx_core.media.files import read_media, write_video

    edit = runs.WindowRun.edit
    monkeypatch.setattr(runs.WindowRun, "edit", _stop_at(edit, 1, InterruptProcessingException))
    with pytest.raises(InterruptProcessingException):
        run(module, loaded, video)
    path = tmp_path / "clip.mp4"
    write_video(path, read_media(path).frames_FHWC[::-1].copy(), Fraction(24000, 1001))
    monkeypatch.setattr(runs.WindowRun, "edit", edit)
    assert "finished already" not in str(run(module, loaded, video).ui["text"])


def test_what_the_file_loses_is_said(module: ModuleType, loaded: Any, video: Any, tmp_path: Path) -> None:
    """A sound that nothing here decodes is left out, and the node says so on its page."""
    from comfy_api.input_impl import VideoFromFile

    path = tmp_path / "odd.mkv"
    with av.open(str(tmp_path / "clip.mp4")) as source, av.open(str(path), "w") as out:
        film = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = film
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 7000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(sound.encode(frame))
    damaged = path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_PCM/INT/XXX")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    output = run(module, loaded, VideoFromFile(str(path)))
    assert "audio left out: this FFmpeg knows no decoder for it" in output.ui["text"]
    assert len(frames_of(output)) == 22


def test_pictures_in_memory_keep_their_sound(module: ModuleType, loaded: Any) -> None:
    """Create Video with sound -> Long Video -> the same sound; an odd size is cropped to the grid."""
    from comfy_api.input_impl import VideoFromComponents
    from comfy_api.util import VideoComponents

    images = torch.rand(11, 50, 67, 3, generator=torch.manual_seed(0))
    sound = {"waveform": torch.zeros(1, 2, 4000), "sample_rate": 8000}
    video = VideoFromComponents(VideoComponents(images=images, audio=sound, frame_rate=Fraction(16)))
    parts = run(module, loaded, video).args[0].get_components()
    assert parts.images.shape == (11, 48, 64, 3) and parts.frame_rate == 16 and parts.audio is sound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10}, "not 4n.1; use 13"),
        ({"overlap": 5}, "overlap of 5 frames does not fit"),
    ],
)
def test_refused(module: ModuleType, loaded: Any, video: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(module, loaded, video, **options)
    with pytest.raises(ValueError, match="connect a VIDEO"):
        run(module, loaded, torch.rand(3, 32, 32, 3))
