"""Swaps by both of the paper's routes, and a judge's back-check; the film is the target of every pair but "remove".

The players are classes of a user's own (`"by": "python"`), which draw what a model would; models: test_models.py.
"""

import dataclasses
import json
import sys

import numpy as np
import pytest

from instructx_core.data.record import from_json
from instructx_core.errors import InputError
from instructx_core.media.files import read_media, write_video
from instructx_core.synthesis.cast import make_casting, read_cast
from instructx_core.synthesis.classic.seen import MotionGrounder
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.export import export
from instructx_core.synthesis.films import find_films
from instructx_core.synthesis.models.poses import POINTS
from instructx_core.synthesis.run import WORK, candidates_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.stage import run_stages
from instructx_core.synthesis.terms.candidate import load, save
from instructx_core.synthesis.terms.clip import CLIP
from instructx_core.synthesis.terms.masks import box_around, main_piece
from instructx_core.synthesis.terms.pairs import PAIRS
from instructx_core.synthesis.terms.roles import Poses, Unplayable

BLUE = (30, 60, 220)


class Player:
    def __init__(self, weights, device):
        pass


class People(Player):
    """What moves is a person."""

    name = "people 1"

    def ground(self, frames_FHWC, phrases, path):
        found = MotionGrounder().ground(frames_FHWC, phrases, path)
        return [dataclasses.replace(sighting, phrase="person") for sighting in found]


class Painter(Player):
    name = "painter 1"

    def inpaint(self, frames_FHWC, mask_FHW, phrase, other):
        return np.where(mask_FHW[..., None], np.uint8(BLUE), frames_FHWC)


class FrameEditor(Player):
    name = "frame editor 1"

    def edit_frame(self, frame_HWC, instruction):
        return np.clip(frame_HWC.astype(np.int16) + 6, 0, 255).astype(np.uint8)


class PoseReader(Player):
    name = "poses 1"

    def read(self, frames_FHWC, mask_FHW):
        points = np.zeros((len(mask_FHW), POINTS, 3), np.float32)
        for number, mask in enumerate(mask_FHW):
            if mask.any():
                left, top, right, bottom = box_around(main_piece(mask))
                points[number, :, 0] = np.linspace(left, right, POINTS)
                points[number, :, 1] = np.linspace(top, bottom, POINTS)
                points[number, :, 2] = 0.9
        return Poses(points)


class Animator(Player):
    """The film with its subject in blue and all of it a little lighter, as of the edited first frame."""

    name = "animator 1"

    def animate(self, first_HWC, driving_FHWC, poses, prompt):
        driven_FHWC = np.clip(driving_FHWC.astype(np.int16) + 6, 0, 255).astype(np.uint8)
        for driven, points in zip(driven_FHWC, poses.points_FK3, strict=True):
            (left, top), (right, bottom) = points[[0, -1], :2].astype(int)
            driven[top:bottom, left:right] = BLUE
        driven_FHWC[0] = first_HWC  # a driven clip begins with the picture that it was given
        return driven_FHWC


class Doubter(Player):
    """Believes removals alone."""

    name = "doubter 1"

    def judge(self, source, target, instruction):
        assert source.is_file()
        assert target.is_file()
        return {"instruction": 9.0, "quality": 8.0 if source.name == CLIP else 3.0}


class Broken(Player):
    name = "broken 1"

    def judge(self, source, target, instruction):
        raise Unplayable("the server is gone")


@pytest.fixture(autouse=True)
def players(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_players", sys.modules[__name__])


def setup_of(tmp_path, **roles):
    given = {role.replace("_", " "): {"by": "python", "python": f"my_players:{name}"} for role, name in roles.items()}
    (tmp_path / "cast.json").write_text(json.dumps(given))
    return Setup(casting=make_casting("classic", (), read_cast(tmp_path / "cast.json"), others=("a blue box",)))


@pytest.fixture
def made(tmp_path):
    """made(setup): the set of one film."""
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "film.mp4", draw_film(2).frames_FHWC, FPS, crf=16)

    def run(setup):
        (candidate,) = candidates_of(find_films(tmp_path / "films", tmp_path / "set"), tmp_path / "set", setup, 1)
        export([candidate], tmp_path / "set" / WORK, tmp_path / "set", setup)
        lines = (tmp_path / "set" / "records.jsonl").read_text().splitlines()
        return candidate, {record.task: record for record in map(from_json, map(json.loads, lines))}

    return run


def test_the_film_is_the_target_of_all_but_remove():
    assert {task for task, (_, target) in PAIRS.items() if target != CLIP} == {"remove"}
    assert all(source != CLIP for task, (source, _) in PAIRS.items() if task != "remove")


def test_a_thing_is_in_painted_from_the_other_to_the_films_own(made, tmp_path):
    candidate, records = made(setup_of(tmp_path, inpainter="Painter"))
    assert candidate.fact("swap", "route") == "in-painted", candidate.facts["swap"]
    assert candidate.fact("swap", "outside") > 34
    record = records["swap"]
    assert record.instruction.startswith("Replace the blue box with a")
    source_FHWC, target_FHWC = (
        read_media(tmp_path / "set" / each.path).frames_FHWC for each in (record.source, record.target)
    )
    mask_FHW = read_media(tmp_path / "set" / record.mask.path).frames_FHWC[..., 1] > 127
    assert np.abs(np.median(source_FHWC[mask_FHW], axis=0) - BLUE).max() < 12
    film_FHWC = read_media(tmp_path / "films" / "film.mp4").frames_FHWC[: len(target_FHWC)]
    assert np.abs(target_FHWC.astype(int) - film_FHWC).mean() < 3, "the target is the film"
    assert records["reference_swap"].reference is not None
    assert "painter 1" in record.meta["stages"]["instruct"]
    assert record.meta["licences"] == {"film": "unstated", "inpainter": "unstated"}


def test_a_person_before_a_standing_ground_is_driven(made, tmp_path):
    cast = {"grounder": "People", "frame_editor": "FrameEditor", "poses": "PoseReader", "animator": "Animator"}
    candidate, records = made(setup_of(tmp_path, inpainter="Painter", **cast))
    assert candidate.fact("ground", "kind") == "static"
    assert candidate.fact("swap", "route") == "driven", candidate.facts["swap"]
    assert candidate.fact("swap", "astray") < 0.06
    assert records["swap"].instruction == "Replace the blue box with a person."
    assert records["swap"].source.path.endswith(".swapped.mp4")


def test_a_swap_that_fails_costs_the_swap_alone(made, tmp_path):
    setup = setup_of(tmp_path, inpainter="Painter")
    strict = dataclasses.replace(setup, limits=dataclasses.replace(setup.limits, visible=200.0))
    candidate, _ = made(setup)
    folder = tmp_path / "set" / WORK / candidate.id
    from instructx_core.synthesis.pipeline import stages_of

    (swap,) = [stage for stage in stages_of(strict) if stage.name == "swap"]
    found = swap.run(load(folder), folder)
    assert found.reject is None
    assert found.fact("swap", "route") == ""
    assert found.fact("swap", "why") == "the swap is hardly visible"


def test_a_judge_leaves_out_what_it_does_not_believe(made, tmp_path):
    candidate, records = made(setup_of(tmp_path, judge="Doubter"))
    assert set(records) == {"remove"}
    scores = records["remove"].meta["facts"]["back-check"]["scores"]
    assert scores["add"] == {"instruction": 9.0, "quality": 3.0}
    assert candidate.reject is None


def test_a_judge_that_is_gone_ends_the_run_and_blames_no_clip(made, tmp_path):
    with pytest.raises(InputError, match="the server is gone"):
        made(setup_of(tmp_path, judge="Broken"))
    (folder,) = (tmp_path / "set" / WORK).glob("film-*")
    assert load(folder).reject is None
    assert "instruct" in load(folder).done
    save(load(folder), folder)
    assert run_stages(folder, ()).reject is None
