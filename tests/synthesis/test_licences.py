"""Nothing whose licence forbids training passes, unless it is told to; every record says what it is made of."""

import json

import pytest

from instructx_core.errors import InputError
from instructx_core.synthesis.cast import Player, make_casting
from instructx_core.synthesis.films import Film
from instructx_core.synthesis.licences import check_licences, forbids, licences_of, read_film_licences
from instructx_core.synthesis.run import usable


@pytest.mark.parametrize(
    ("name", "is_forbidden"),
    [
        ("CC-BY-4.0", False),
        ("CC0-1.0", False),
        ("Apache-2.0", False),
        ("unstated", False),
        ("CC-BY-NC-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("CC-BY-ND-4.0", True),
        ("FLUX-1-dev-non-commercial-license", True),
        ("S-Lab License 1.0", True),
        ("All rights reserved", True),
    ],
)
def test_what_forbids_training(name, is_forbidden):
    assert forbids(name) == is_forbidden


def test_a_player_whose_licence_forbids_it_is_named_before_any_work():
    given = {"frame editor": Player("kontext", weights="flux")}
    casting = make_casting("classic", (), given)
    assert licences_of(casting) == {"frame editor": "flux-1-dev-non-commercial-license"}
    with pytest.raises(InputError, match="frame editor: the licence flux-1-dev-non-commercial-license forbids"):
        check_licences(casting, ())
    check_licences(casting, ("flux-1-dev-non-commercial-license",))
    bought = {"frame editor": Player("kontext", weights="flux", licence="bought for this")}
    check_licences(make_casting("classic", (), bought), ())


def test_films_have_their_licences_beside_them(tmp_path):
    (tmp_path / "licences.json").write_text(json.dumps({"mine.mp4": "CC0-1.0", "*": "CC-BY-NC-4.0"}))
    films = [Film(tmp_path / name, name) for name in ("mine.mp4", "other.mp4")]
    licences = read_film_licences(tmp_path)
    good, bad = usable(films, licences, ())
    assert [film.id for film in good] == ["mine.mp4"]
    assert "CC-BY-NC-4.0 forbids training" in bad[0].reason
    assert usable(films, licences, ("CC-BY-NC-4.0",))[1] == []
    (tmp_path / "licences.json").write_text("[]")
    with pytest.raises(InputError, match="no object of film and licence"):
        read_film_licences(tmp_path)
