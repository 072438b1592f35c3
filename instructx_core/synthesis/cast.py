"""Who plays which role: what the user says, as a value that goes to every process; players.py makes the players of it.

Place: command line, cast file -> cast -> players.py -> pipeline.py. A cast file is JSON, a role each:
{"eraser": {"by": "vace", "weights": "DIR", "licence": "Apache-2.0"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InputError

CLASSIC, SELF, MODELS = BACKENDS = ("classic", "self", "models")
ROLES: dict[str, dict[str, tuple[str, ...]]] = {  # role: back end: kinds of player, the first of classic and self
    "grounder": {CLASSIC: ("motion",), SELF: ("instructx",), MODELS: ("grounding-dino", "python")},
    "tracker": {CLASSIC: ("motion",), SELF: ("instructx",), MODELS: ("sam2", "python")},
    "eraser": {CLASSIC: ("plate",), SELF: ("instructx",), MODELS: ("vace", "command", "python")},
    "flow": {CLASSIC: ("dis",), MODELS: ("raft", "python")},
    "writer": {CLASSIC: ("templates",), MODELS: ("server", "python")},
    "inpainter": {SELF: ("instructx",), MODELS: ("vace", "command", "python")},
    "frame editor": {SELF: ("instructx",), MODELS: ("kontext", "command", "python")},
    "poses": {MODELS: ("vitpose", "rtmlib", "python")},
    "animator": {MODELS: ("animate", "command", "python")},
    "judge": {MODELS: ("server", "python")},
}
NEEDED = ("grounder", "tracker", "eraser", "flow", "writer")
WITHOUT_WEIGHTS = ("motion", "plate", "dis", "templates", "instructx")  # may go without them
NO_WEIGHTS = ("command", "python", "server")  # have none of their own


@dataclass(frozen=True, slots=True)
class Player:
    """by: its kind. weights: a folder, "" for what is shipped or needs none. licence: of the weights, as their card
    says. gpus: that an actor of a cluster needs. The rest is for kinds that need it: a command line, MODULE:NAME of a
    class in Python, address and model of a server."""

    by: str
    weights: str = ""
    licence: str = ""
    device: str = ""
    gpus: float = 0.0
    command: str = ""
    python: str = ""
    url: str = ""
    model: str = ""
    steps: int = 0  # of a sampler, 0 for its own


@dataclass(frozen=True, slots=True)
class Casting:
    """players: a role and who plays it. things: phrases that films may show, for grounders that need words; others:
    what a swap may put in their place. noun: what a thing is called whose kind nobody knows."""

    players: tuple[tuple[str, Player], ...]
    things: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    noun: str = "object"

    def player(self, role: str) -> Player | None:
        return dict(self.players).get(role)

    def gpus(self, *roles: str) -> float:
        """What an actor needs that plays these."""
        return max((player.gpus for role, player in self.players if role in roles), default=0.0)

    @property
    def swaps(self) -> bool:
        """Whether anybody can put another thing in a subject's place."""
        return self.player("inpainter") is not None or all(
            self.player(role) is not None for role in ("frame editor", "poses", "animator")
        )


def backend_of(role: str, kind: str) -> str:
    """The back end that a kind of player belongs to. Raises InputError for a kind that does not play the role."""
    for backend, kinds in ROLES[role].items():
        if kind in kinds:
            return backend
    known = ", ".join(kind for kinds in ROLES[role].values() for kind in kinds)
    raise InputError(f"{role}: {kind!r} does not play it; use one of {known}")


def read_cast(path: Path | None) -> dict[str, Player]:
    """The players of a cast file. Raises InputError for what it has not or cannot be."""
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a cast ({error}); give JSON of roles") from None
    if not isinstance(values, dict) or not all(isinstance(value, dict) for value in values.values()):
        raise InputError(f'{path}: is no object of roles; give JSON like {{"eraser": {{"by": "vace"}}}}')
    return {role: _player(path, role, given) for role, given in values.items()}


def _player(path: Path, role: str, given: Mapping[str, Any]) -> Player:
    if role not in ROLES:
        raise InputError(f"{path}: there is no role {role!r}; there are {', '.join(ROLES)}")
    kinds = {each.name: type(each.default) for each in fields(Player) if each.name != "by"} | {"by": str}
    for name, value in given.items():
        if name not in kinds:
            raise InputError(f"{path}: {role} has no {name!r}; a player has {', '.join(kinds)}")
        fits = isinstance(value, (int, float) if kinds[name] is float else kinds[name])
        if not fits or isinstance(value, bool):
            raise InputError(f"{path}: {role}: {name} is {value!r}; it must be of kind {kinds[name].__name__}")
    if "by" not in given:
        raise InputError(f'{path}: {role}: says not who plays it; give "by"')
    player = Player(**given)
    backend_of(role, player.by)
    place = f"{path}: {role}"
    if player.by not in (*WITHOUT_WEIGHTS, *NO_WEIGHTS) and not player.weights:
        raise InputError(f'{place}: {player.by} has no weights; give their folder as "weights"')
    if player.weights and not Path(player.weights).exists():
        raise InputError(f"{place}: {player.weights} does not exist; nothing is fetched, so get the weights first")
    for kind, needed in (("command", "command"), ("python", "python"), ("server", "url"), ("server", "model")):
        if player.by == kind and not getattr(player, needed):
            raise InputError(f'{place}: {kind} needs "{needed}"')
    return player


def make_casting(
    backend: str,
    roles: Sequence[str],
    given: Mapping[str, Player],
    *,
    things: Sequence[str] = (),
    others: Sequence[str] = (),
    noun: str = "object",
) -> Casting:
    """backend: of all roles; roles: "ROLE=BACKEND" for single ones; given: players of a cast file.

    A player of the file plays unless another back end was asked for. Raises InputError for a role that nobody plays.
    """
    wanted = dict[str, str]()
    for text in roles:
        role, equals, name = text.partition("=")
        if not equals or role not in ROLES or name not in ROLES[role]:
            raise InputError(
                f"--role {text!r}: use ROLE=BACKEND with ROLE one of {', '.join(ROLES)} and a back end that plays it"
            )
        wanted[role] = name
    players = list[tuple[str, Player]]()
    for role in ROLES:
        player = _cast(role, wanted.get(role), backend, given)
        if player is not None:
            players.append((role, player))
    casting = Casting(tuple(players), tuple(things), tuple(others), noun)
    _check_words(casting)
    return casting


def _cast(role: str, wanted: str | None, backend: str, given: Mapping[str, Player]) -> Player | None:
    file, plays = given.get(role), wanted or backend
    if file is not None and (wanted is None or backend_of(role, file.by) == wanted):
        return file
    if wanted is None and role not in NEEDED:
        return None
    if plays == MODELS:
        raise InputError(f"{role} is to be played by a model and no cast file says which; give it in --cast FILE")
    if plays not in ROLES[role]:
        plays = CLASSIC  # of flow and writer: InstructX plays neither
    return Player(ROLES[role][plays][0])


def _check_words(casting: Casting) -> None:
    """Raises InputError where a grounder would have no words to look for."""
    grounder, writer = casting.player("grounder"), casting.player("writer")
    assert grounder is not None and writer is not None, NEEDED
    if grounder.by not in ("motion", "python") and writer.by == "templates" and not casting.things:
        raise InputError(
            f"grounder: {grounder.by} looks for things by their names; give them as --things 'red car,dog', or a "
            "writer that sees the film"
        )
    if casting.swaps and writer.by == "templates" and not casting.others:
        raise InputError("a swap needs what to put in a thing's place; give it as --others 'a blue car,a horse'")


def on_device(casting: Casting, device: str, weights: str) -> Casting:
    """The same with device and InstructX's weights of the command line for players that name none of their own."""
    return replace(
        casting,
        players=tuple(
            (
                role,
                replace(
                    player,
                    device=player.device or device,
                    weights=player.weights or (weights if player.by == "instructx" else ""),
                ),
            )
            for role, player in casting.players
        ),
    )


CLASSIC_CAST = make_casting(CLASSIC, (), {})
