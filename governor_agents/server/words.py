"""The word that a person types to confirm. Whatever opens, follows or submits by itself does not read and type it.

It follows from a secret of the page and what the page shows, so nothing is stored for it, and it is another one as soon
as the request is.
"""

from __future__ import annotations

import hashlib
import hmac

_WORDS = (
    "acorn amber anchor apple arrow autumn badge bamboo basil beacon berry birch bishop blanket blossom border "
    "bottle branch breeze bridge bronze brook bucket butter button cabin cactus camel canal candle canoe canvas "
    "carbon carpet castle cedar cellar chalk cherry chess circle citrus clover cobalt coffee comet copper coral "
    "corner cotton cradle crater cricket crystal curtain daisy desert dinner dolphin donkey dragon drawer eagle "
    "easel ember engine falcon farmer feather fennel ferry fiddle field flannel flute forest fossil fountain "
    "galaxy garden garlic gentle ginger glacier goblet granite grape gravel guitar hammer harbor harvest hazel "
    "helmet heron hollow honey horizon indigo island ivory jacket jasmine jigsaw jungle juniper kettle kitchen "
    "ladder lagoon lantern laurel lemon lentil letter lilac linen lizard lobster locket lumber magnet mango "
    "maple marble meadow melon mirror mitten monkey mosaic mountain muffin mustard needle nickel nutmeg oasis "
    "ocean olive onion orange orchard otter oyster paddle painter palace panda paper parrot pebble pencil pepper "
    "piano pillow pilot pine planet plum pocket pollen poppy potter powder prairie pumpkin puzzle quartz quiver "
    "rabbit radish raft rain raven ribbon river robin rocket rosemary saddle saffron sailor salmon sandal satin "
    "scarf season shadow shelter silver singer sketch slate snow socket sparrow spice spiral spring spruce stable "
    "station summer sunset swallow tailor tangle teapot temple thistle thunder ticket tiger timber tomato topaz "
    "towel trumpet tulip tunnel turtle valley vanilla velvet village violet violin walnut water weaver whale "
    "wicker willow window winter wizard wolf yarrow yellow zebra zenith"
)

LIST = tuple(_WORDS.split())
"""Short, well known, hard to mistake for one another."""


def word_for(secret: str, seen: str) -> str:
    """The word of a page: ``secret`` is what only its reader has, ``seen`` what it shows."""
    return LIST[int.from_bytes(_mac(secret, "word", seen)[:8]) % len(LIST)]


def form_token(secret: str, place: str, seen: str) -> str:
    """What a form of ours carries, and nobody else can make: bound to its place, its reader and what was shown."""
    return _mac(secret, "form", place, seen).hex()


def same(given: str, right: str) -> bool:
    """Compare without telling by time how much is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


def typed(given: str, word: str) -> bool:
    """True when a person typed the word: capitals and spaces around it do not matter."""
    return same(" ".join(given.split()).casefold(), word)


def _mac(secret: str, *parts: str) -> bytes:
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hmac.new(secret.encode(), text.encode("utf-8", "backslashreplace"), hashlib.sha256).digest()
