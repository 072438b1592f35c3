"""Names: words that mean one thing of a scene, or a thing that comes, a place or a ground.

Place: scene, lexicon -> names -> sentence, captions, questions. A thing is called by its colour, shape, size or place
alone only where that is unique in the picture; one that is absent only by what nothing there has.
"""

from __future__ import annotations

from ..scene.canvas import PLACES
from ..scene.contents import Change, Scene, Thing
from ..scene.distance import area_of
from ..scene.draw import choose, choose_weighted
from ..scene.grounds import Ground
from .lexicon import words
from .manner import Speaker, vary

SIZE_MARGIN = 1.5  # by which the area of "the largest one" exceeds every other
LOOKALIKES = {"circle": "ring", "ring": "circle"}  # one might be called the other, where that one is absent
BARE_SHARE = 0.6  # of the swaps that keep the colour leave it out of the words
# How often a thing is called in each way, where several are possible.
NAME_SHARES = {"full": 6, "placed": 1, "sized": 0.5, "place": 2, "shape": 2, "color": 2, "size": 1, "only": 1}


def with_article(text: str) -> str:
    """Put the article in front: orange ring -> an orange ring."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def color_word(speaker: Speaker, thing: Thing) -> str:
    if thing.color is None:
        return speaker.words["patterned"]
    return speaker.word("colors", thing.color)


def shape_word(speaker: Speaker, thing: Thing) -> str:
    return speaker.word("shapes", thing.shape)


def place_word(speaker: Speaker, place: int, form: str = "at") -> str:
    """form: "at" ("in the upper left corner") or "places" ("upper left")."""
    return vary(speaker.rng, speaker.words[form][PLACES[place]])


def ground_phrase(speaker: Speaker, ground: str) -> str:
    """A named ground as it stands in a sentence, e.g. "plain navy", "green stripes", "a gray gradient"."""
    first, second = ground.split()
    rng, vocabulary = speaker.rng, speaker.words
    color, forms = (second, vocabulary["plain"]) if first == "plain" else (first, vocabulary["textures"][second])
    return vary(rng, forms).format(vary(rng, vocabulary["ground_colors"][color]))


def is_largest(scene: Scene, thing: Thing) -> bool:
    """Whether it is clearly the largest of several."""
    area = area_of(thing.shape) * thing.radius**2
    others = [area_of(each.shape) * each.radius**2 for each in scene.things if each is not thing]
    return bool(others) and area >= SIZE_MARGIN * max(others)


def is_smallest(scene: Scene, thing: Thing) -> bool:
    """Whether it is clearly the smallest of several."""
    area = area_of(thing.shape) * thing.radius**2
    others = [area_of(each.shape) * each.radius**2 for each in scene.things if each is not thing]
    return bool(others) and SIZE_MARGIN * area <= min(others)


def ways_to_name(scene: Scene, thing: Thing, full: bool = False) -> list[str]:
    """Keys of NAME_SHARES that mean this thing and no other; if it is absent, that mean nothing."""
    if full and thing in scene.things:
        return ["full"]
    ways = ["full"]
    is_there = thing in scene.things
    count = 1 if is_there else 0
    alike = (thing.shape,) if is_there else (thing.shape, LOOKALIKES.get(thing.shape))
    if sum(other.shape in alike for other in scene.things) == count:
        ways.append("shape")
    if sum(other.color == thing.color for other in scene.things) == count and thing.color is not None:
        ways.append("color")
    if not is_there:
        return ways
    ways += ["placed", "place"]
    if thing.size != "medium":
        ways.append("sized")
    is_extreme = is_largest(scene, thing) if thing.size == "large" else is_smallest(scene, thing)
    if thing.size != "medium" and is_extreme and [other.size for other in scene.things].count(thing.size) == 1:
        ways.append("size")
    if len(scene.things) == 1:
        ways.append("only")
    return ways


def refer(speaker: Speaker, scene: Scene, thing: Thing, full: bool = False) -> str:
    """Words that mean this thing and no other in the scene; full: its colour and shape."""
    return name(speaker, thing, ways_to_name(scene, thing, full))


def name(speaker: Speaker, thing: Thing, ways: list[str]) -> str:
    """The thing called in one of these ways (keys of NAME_SHARES)."""
    rng, vocabulary = speaker.rng, speaker.words
    total = sum(NAME_SHARES[way] for way in ways)
    way = choose_weighted(rng, ways, [NAME_SHARES[each] / total for each in ways])
    return choose(rng, vocabulary["names"][way]).format(
        color=color_word(speaker, thing),
        shape=shape_word(speaker, thing),
        at=place_word(speaker, thing.place),
        place=place_word(speaker, thing.place, "places"),
        size=speaker.word("sizes", thing.size),
        superlative=vary(rng, vocabulary["superlatives"].get(thing.size, ("",))),
        one=speaker.nouns["one"],
    )


def indefinite(speaker: Speaker, thing: Thing, form: int = 0) -> str:
    """A thing with its article; form: 0 colour and shape, 1 shape, 2 size, colour and shape."""
    text = speaker.words["new"][form].format(
        color=color_word(speaker, thing),
        shape=shape_word(speaker, thing),
        size=speaker.word("sizes", thing.size),
    )
    return with_article(text) if speaker.language == "en" else text


def new_name(speaker: Speaker, change: Change) -> str:
    """What comes, with its article: "a red star", "a small red star", or "a star" where the colour is kept."""
    new, old = change.new, change.thing
    if new is None or new.pattern is not None:
        return ""
    form = 0
    if old is not None:
        # Without a colour word the colour is kept; hybrids say it in full so that no order of reading is ambiguous.
        form = int(new.color == old.color and not change.full and speaker.rng.random() < BARE_SHARE)
    elif new.size != "medium":
        form = 2
    return indefinite(speaker, new, form)


def plain_speaker(language: str) -> Speaker:
    """One who always uses the plain words and draws nothing at random."""
    nouns = {key: options[0] for key, options in words(language)["nouns"].items()}
    return Speaker(_FirstOption(), language, False, "lower", False, 0, False, nouns)  # type: ignore[arg-type]


class _FirstOption:
    """Stands for a random stream, and always takes the first option."""

    def random(self) -> float:
        return 0.0

    def integers(self, *bounds: int) -> int:
        return 0


def ground_words(speaker: Speaker, ground: Ground) -> str:
    """A ground in a caption; one without a name is a photo."""
    return ground_phrase(speaker, ground) if isinstance(ground, str) else speaker.words["unnamed"]
