"""The paper's models as players: the real classes of transformers, torchvision and diffusers with random weights, saved
and read as a user's folder. What comes out means nothing; its kind, size and place are looked at."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.synthesis.cast import make_casting, read_cast
from instructx_core.synthesis.classic.flow import DisFlow
from instructx_core.synthesis.models.diffusion import LONGEST, Animate, Kontext, Vace
from instructx_core.synthesis.models.grounding_dino import DinoGrounder
from instructx_core.synthesis.models.plugin import CommandPlayer
from instructx_core.synthesis.models.poses import POINTS, VitPoses, draw_poses
from instructx_core.synthesis.models.raft import RaftFlow
from instructx_core.synthesis.models.sam2 import Sam2Tracker
from instructx_core.synthesis.players import check_players, players_of
from instructx_core.synthesis.terms.camera import CameraPath
from instructx_core.synthesis.terms.roles import Poses, Sighting

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_pipelines import kontext, vace, wan_animate

FRAMES = 5
STANDS = CameraPath(np.tile(np.eye(3), (FRAMES, 1, 1)), 0.0, 1.0)


@pytest.fixture(scope="module")
def clip():
    """(frames, mask) of a bright square that moves over noise, 64x64."""
    frames_FHWC = np.random.default_rng(0).integers(60, 120, (FRAMES, 64, 64, 3), np.uint8)
    mask_FHW = np.zeros((FRAMES, 64, 64), dtype=bool)
    for number in range(FRAMES):
        mask_FHW[number, 20:40, 10 + 4 * number : 30 + 4 * number] = True
    frames_FHWC[mask_FHW] = (230, 40, 40)
    return frames_FHWC, mask_FHW


def bert(folder, words=("a", "red", "square", ".")):
    from transformers import BertTokenizer

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    return BertTokenizer(str(vocabulary))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            window_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        max_text_len=16,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    size = {"shortest_edge": 128, "longest_edge": 160}
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=size), bert(folder)).save_pretrained(folder)
    return folder


def test_grounding_dino_gives_boxes_in_the_picture(clip, dino, monkeypatch):
    monkeypatch.setattr(
        "instructx_core.synthesis.models.grounding_dino.SURE", 0.0
    )  # random weights are sure of nothing
    found = DinoGrounder(str(dino)).ground(clip[0], ["red square"], STANDS)
    assert found
    for sighting in found:
        left, top, right, bottom = sighting.box
        assert 0 <= left < right <= 64
        assert 0 <= top < bottom <= 64
        assert (sighting.phrase, sighting.frame) == ("red square", FRAMES // 2)
        assert 0.0 <= sighting.score <= 1.0


def test_sam_2_follows_a_box_through_all_frames(clip, tmp_path):
    import transformers
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor, Sam2VisionConfig
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    side = 128
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[side, side],
        window_positional_embedding_background_size=[4, 4],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[3],
    )
    width = 128  # twice that of the memory, as of the real one
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=width,
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": width, "image_size": side, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": width, "mlp_dim": 32, "num_attention_heads": 1, "iou_head_hidden_dim": 16},
        image_size=side,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=32,
    )
    Sam2VideoModel(config).save_pretrained(tmp_path)
    sizes = {"size": {"height": side, "width": side}, "mask_size": {"height": side // 4, "width": side // 4}}
    pictures = getattr(transformers, "Sam2ImageProcessor", None) or transformers.Sam2ImageProcessorFast
    processor = Sam2VideoProcessor(pictures(**sizes), Sam2VideoVideoProcessor(**sizes))
    processor.save_pretrained(tmp_path)
    mask_FHW = Sam2Tracker(str(tmp_path)).track(clip[0], Sighting("red square", 2, (18, 20, 38, 40), 1.0), STANDS)
    assert mask_FHW.shape == clip[1].shape
    assert mask_FHW.dtype == bool


def test_raft_and_dis_give_a_flow_of_the_pictures_size(clip, tmp_path):
    from safetensors.torch import save_file
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    save_file(raft_small().state_dict(), tmp_path / "raft.safetensors")
    flow_HW2 = RaftFlow(str(tmp_path / "raft.safetensors")).flow(clip[0][0], clip[0][1])
    assert flow_HW2.shape == (64, 64, 2)
    assert np.isfinite(flow_HW2).all()
    still_HWC = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    moved_HW2 = DisFlow().flow(still_HWC, np.roll(still_HWC, 3, axis=1))
    assert np.median(moved_HW2[20:-20, 20:-20, 0]) == pytest.approx(3.0, abs=0.3)
    with pytest.raises(InputError, match="no RAFT"):
        (tmp_path / "other.safetensors").write_bytes(b"no weights")
        RaftFlow(str(tmp_path / "other.safetensors")).flow(clip[0][0], clip[0][1])


def test_vitpose_reads_the_person_under_the_mask(clip, tmp_path):
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessor

    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=[64, 48], hidden_size=32, num_hidden_layers=1, num_attention_heads=2, out_features=["stage1"]
    )
    config = VitPoseConfig(backbone_config=backbone, num_labels=POINTS, use_simple_decoder=True)
    VitPoseForPoseEstimation(config).save_pretrained(tmp_path)
    VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(tmp_path)
    poses = VitPoses(str(tmp_path)).read(*clip)
    assert poses.points_FK3.shape == (FRAMES, POINTS, 3)
    assert np.isfinite(poses.points_FK3).all()
    assert draw_poses(Poses(np.ones((FRAMES, POINTS, 3), np.float32) * 9), (64, 64)).shape == clip[0].shape


def test_kontext_edits_a_frame_at_its_own_size(clip, tmp_path):
    kontext().save_pretrained(tmp_path)
    assert Kontext(str(tmp_path), steps=1).edit_frame(clip[0][0], "make it blue").shape == (64, 64, 3)


def test_vace_fills_the_mask_and_nothing_else(clip, tmp_path):
    pytest.importorskip("ftfy", reason="diffusers' Wan pipelines clean prompts with it")
    frames_FHWC, mask_FHW = clip
    vace().save_pretrained(tmp_path)
    player = Vace(str(tmp_path), steps=1)
    erased = player.erase(frames_FHWC, mask_FHW, STANDS, "red square")
    changed = (erased.frames_FHWC != frames_FHWC).any(axis=-1)
    assert changed[mask_FHW].mean() > 0.9
    assert not changed[:, :10].any()
    assert not changed[:, 50:].any()
    assert player.inpaint(frames_FHWC, mask_FHW, "red square", "a blue circle").shape == frames_FHWC.shape
    assert LONGEST % 4 == 1


def test_animate_lets_a_picture_move(clip, tmp_path):
    pytest.importorskip("ftfy", reason="diffusers' Wan pipelines clean prompts with it")
    wan_animate().save_pretrained(tmp_path)
    poses = Poses(np.random.default_rng(0).uniform(10, 50, (FRAMES, POINTS, 3)).astype(np.float32))
    driven_FHWC = Animate(str(tmp_path), steps=1).animate(clip[0][0], clip[0], poses, "a person")
    assert driven_FHWC.shape == clip[0].shape


ERASER = """
import sys
from instructx_core.media.files import read_media, write_video
source, mask, output = sys.argv[1:]
frames, white = read_media(source).frames_FHWC.copy(), read_media(mask).frames_FHWC[..., 1] > 127
frames[white] = 90
write_video(output, frames, 16, crf=4)
"""


class Remover:
    """As a user's own package would have it."""

    name = "remover 1"

    def __init__(self, weights, device):
        self.weights = weights

    def erase(self, frames_FHWC, changed_FHW, path, phrase):
        raise NotImplementedError


def test_a_program_of_the_users_is_an_eraser(clip, tmp_path):
    (tmp_path / "eraser.py").write_text(ERASER)
    line = f"{sys.executable} {tmp_path / 'eraser.py'} {{source}} {{mask}} {{output}}"
    erased = CommandPlayer(line).erase(*clip, STANDS, "red; rm -r /")
    assert abs(int(np.median(erased.frames_FHWC[clip[1]])) - 90) < 4
    with pytest.raises(InputError, match="ended with 1"):
        CommandPlayer(f"{sys.executable} -c 'raise SystemExit(1)' {{source}} {{mask}} {{output}}").erase(
            *clip, STANDS, ""
        )


def cast_file(tmp_path, **roles):
    (tmp_path / "cast.json").write_text(json.dumps({name.replace("_", " "): given for name, given in roles.items()}))
    return tmp_path / "cast.json"


def test_a_class_of_the_users_is_an_eraser(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_remover", sys.modules[__name__])
    path = cast_file(tmp_path, eraser={"by": "python", "python": "my_remover:Remover"})
    casting = make_casting("classic", (), read_cast(path))
    assert players_of(casting).eraser.name == "remover 1"
    path = cast_file(tmp_path, eraser={"by": "python", "python": "my_remover:nobody"})
    with pytest.raises(InputError, match="cannot be imported"):
        check_players(make_casting("classic", (), read_cast(path)))


@pytest.mark.parametrize(
    ("cast", "words"),
    [
        ({"painter": {"by": "vace"}}, "no role 'painter'"),
        ({"eraser": {"by": "sam2", "weights": "."}}, "does not play it"),
        ({"eraser": {"by": "vace"}}, "has no weights"),
        ({"eraser": {"by": "vace", "weights": "nowhere"}}, "nothing is fetched"),
        ({"eraser": {"by": "vace", "weights": "."}}, "needs a folder of WanVACEPipeline"),
        ({"eraser": {"by": "command", "command": "erase {source}"}}, "filled in with"),
        ({"judge": {"by": "server", "url": "http://localhost:1/v1"}}, 'needs "model"'),
        ({"eraser": {"by": "vace", "steps": "many"}}, "must be of kind int"),
        ({"eraser": ["vace"]}, "no object of roles"),
    ],
)
def test_a_cast_that_cannot_play_is_named_before_any_work(tmp_path, cast, words):
    (tmp_path / "film.mp4").write_bytes(b"x")
    (tmp_path / "cast.json").write_text(json.dumps(cast))
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        check_players(make_casting("classic", (), read_cast(tmp_path / "cast.json")))


def test_models_without_a_cast_file_are_named_before_any_work(tmp_path, capsys):
    (tmp_path / "film.mp4").write_bytes(b"x")
    assert main(["synthesize", str(tmp_path), "--output", str(tmp_path / "set"), "--backend", "models"]) == 2
    assert "grounder is to be played by a model and no cast file says which" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
