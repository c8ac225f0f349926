"""What an English pronoun of one gender becomes in the other: "her" is "him" or "his", "his" is "her" or "hers".

Decided by the words around it. A word that begins a new phrase, or none, leaves "her" an object; what can stand before
a noun makes it a possessive; verbs of seeing, letting, giving and calling, and adjectives after "make" and "find", take
an object before a word that could be a noun. Source: the rules are ours, after the grammar of Quirk et al., A
Comprehensive Grammar of the English Language, 1985, sections 6.29 (possessives) and 16.20 to 16.64 (complements).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PRONOUNS", "Around", "swapped_pronoun"]

_PLAIN = {"he": "she", "she": "he", "him": "her", "hers": "his", "himself": "herself", "herself": "himself"}
PRONOUNS = frozenset({*_PLAIN, "her", "his"})
"""The pronouns that have a gender."""


@dataclass(frozen=True)
class Around:
    """A pronoun's neighbors in lower case, up to the next mark that ends a phrase: three before, four after.

    joined: the word after is itself joined to another by a hyphen, and so stands before a noun or is one.
    """

    before: Sequence[str]
    after: Sequence[str]
    joined: bool = False


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_CLOSED = _set(
    "a an the this that these those some any no every each another enough either neither all both everyone "
    "everybody everything anything something nothing anyone someone nobody what whatever which who whom whose "
    "when whenever where wherever why how whether if because since though although unless until till while as "
    "than and or but nor so yet to of in into on onto upon at by for from with without within about above across "
    "after against along among around before behind below beneath beside besides between beyond despite down "
    "during except inside like near off out outside over past through throughout toward towards under underneath "
    "up via i you he she it we they me him us them my your our their its his her mine yours ours theirs is are "
    "was were am be been being has had have do does did will would shall should can could may might must cannot "
    "not never again too also instead else then there here now today yesterday tomorrow tonight once twice soon "
    "always often sometimes ever just already still even perhaps maybe however therefore thus somehow anyway away "
    "together apart aside forward afterwards afterward later ago alone please ll ve re d isn wasn didn"
)
_UNDECIDED = _set(
    "much more most less least very quite rather many few several one two three four five six seven eight nine "
    "ten first second last next other far better best worse worst only half early late long well right left so "
    "high"
)
_TIMES = _set("night week month year time times day morning evening afternoon summer winter spring autumn weekend")
_PERCEIVE = _set(
    "let lets letting make makes made making help helps helped helping see sees saw seen seeing hear hears heard "
    "hearing watch watches watched watching feel felt feeling bid bade have had having notice noticed observe "
    "observed"
)
_BARE = _set(
    "go come be do have get take give know think say tell sit lie eat become see leave keep find make put bring "
    "begin feel seem stay wait happen process understand realize believe decide forget remember choose learn sing "
    "die grow read write speak hear open follow pass stand fall run walk turn move live carry wear finish prepare "
    "pay buy cook sleep laugh cry weep enter depart approach arrive disappear escape succeed win lose join hold "
    "reach step climb ride "
    "identify solve fix clean improve achieve develop create change build avoid recover explore explain spend study "
    "focus manage relax realise answer ask check complete register apply pack unpack locate navigate win"
)
_NOUNLIKE = _set("walk run turn move ride cry laugh sleep step pass stay fall finish hold cook hear turn")
_CAUGHT = _PERCEIVE | _set("find found finding leave left leaving keep kept keeping catch caught catching spot spotted")
_GIVE = _set(
    "give gives gave given giving tell tells told telling ask asks asked asking offer offers offered offering "
    "show shows showed shown showing send sends sent sending bring brings brought bringing buy buys bought buying "
    "teach taught pay paid hand handed lend lent owe owed cost promise promised wish wished wishing allow allowed "
    "grant granted serve served fetch fetched get got deny denied call called calling name named explain "
    "explained"
)
_GOODS = _set(
    "money food water advice permission directions news help information credit flowers presents gifts chocolates "
    "newspaper newspapers dinner lunch breakfast tea coffee shelter instructions letters candy medicine support "
    "time trouble good luck success joy happiness whatever work bread milk wine tips goods"
)
_WISH = _set("wish wishes wished wishing")
_DO = _set("do does did doing done")
_DONE = _set("credit honor honour justice injustice good harm wrong service favors favours reverence")
_ASKED = _set("tell tells told telling ask asks asked asking call called calling teach taught get got name named")
_LINK = _set(
    "make makes made making find found leave left leaves leaving keep kept keeps keeping think thought call "
    "called consider considered believe believed render rendered hold held wish wished drive drove turn turned "
    "get got declare declared pronounced beat strike struck set knock knocked shot burned buried treat treats treated"
)
_STATES = _set(
    "happy sad angry sick proud asleep awake dead alive unconscious afraid nervous uncomfortable glad mad crazy "
    "ill weary free speechless breathless guilty innocent responsible wrong right unable able ready safe warm "
    "cold busy blind deaf dizzy jealous anxious pregnant worthy unworthy beautiful pretty lovely attractive "
    "stupid dumb weak strong rich poor famous lonely helpless hungry thirsty uneasy curious well mistaken "
    "senseless insane pale good names missing"
)
_MOVE = _set(
    "take takes took taken taking drive drives drove driven driving walk walked walking send sent bring brings "
    "brought see saw follow followed escort escorted lead led carry carried call called give gave get got put "
    "pull pulled push pushed hold held pay paid kiss kissed want wants wanted hit love loved keep kept invite "
    "invited welcome win turn turned fetch fetched accompany accompanied drag dragged throw threw told tell let "
    "hand handed sends"
)
_WAYS = _set("home back outdoors indoors upstairs downstairs abroad overseas north south east west")
_LY_ADJECTIVES = _set(
    "lovely lonely only family early elderly silly friendly ugly daily weekly monthly yearly holy curly woolly "
    "deadly lively orderly sickly costly kindly motherly fatherly sisterly brotherly heavenly earthly worldly "
    "homely bodily belly jelly lily fly ally reply bully july italy supply folly rally melancholy ghastly stately "
    "queenly princely saintly scholarly unruly wily oily hilly burly bubbly prickly wobbly anomaly assembly "
    "butterfly monopoly lordly comely unearthly seemly unfriendly ungainly womanly manly girly timely untimely "
    "leisurely portly ruly shapely"
)
_PREPOSITIONS = _set("with of in on at by for from to into about against over under upon near behind beside through")


def swapped_pronoun(word: str, around: Around) -> str:
    """The other gender's form of a pronoun, both in lower case."""
    if word == "her":
        return "his" if _possesses(around) else "him"
    if word == "his":
        return "her" if _before_noun(around) else "hers"
    return _PLAIN[word]


def _before_noun(around: Around) -> bool:
    """Whether "his" stands before a noun and not by itself."""
    after = around.after
    if around.joined:
        return True
    if not after:
        return False
    if after[0] in ("or", "and") and len(after) > 1 and after[1] in ("her", "their", "my", "your", "our"):
        return len(after) > 2 and (after[2] not in _CLOSED or after[2] in _EITHER)
    return after[0] not in _CLOSED or after[0] in _EITHER


_EITHER = _set("every past like inside outside here now then own very once even never always often still just being")
"""Words that can stand between "his" and a noun or participle, though they rarely follow "her" so."""


def _possesses(around: Around) -> bool:
    """Whether "her" stands before a noun."""
    after = around.after
    if around.joined:
        return True
    if not after:
        return False
    nearest = around.before[-1] if around.before else ""
    word = after[0]
    follows = after[1] if len(after) > 1 else ""
    if word in ("or", "and") and follows in ("his", "their", "my", "your", "our"):
        return len(after) > 2 and after[2] not in _CLOSED
    if word in ("being", "having", "not", "then", "past", "inside", "always", "ever", "once", "still", "never"):
        return _closed_possessive(word, follows, nearest)
    if word in ("like",) or (word in _CLOSED and word not in _UNDECIDED):
        return False
    if word == "own":
        return True
    if word in _TIMES and nearest in _MOVE and not follows:
        return True
    return _open_possessive(word, follows, nearest, around)


def _closed_possessive(word: str, follows: str, nearest: str) -> bool:
    """Of words that mostly end a phrase: "her always cheerful face", "on her being asked"."""
    if word in ("being", "having"):
        return nearest in _PREPOSITIONS and nearest != "with"
    return (
        bool(follows)
        and nearest in _PREPOSITIONS
        and follows not in _CLOSED
        and word in ("always", "ever", "once", "still", "then", "past")
    )


def _open_possessive(word: str, follows: str, nearest: str, around: Around) -> bool:
    """Of words that can be a noun or stand before one."""
    last = not follows or follows in _CLOSED
    if word in _UNDECIDED:
        if word in ("last", "next", "one") and follows in _TIMES and nearest not in _PREPOSITIONS:
            return False
        if word in ("first", "last", "second", "best", "right", "left", "half") and last and nearest in _PREPOSITIONS:
            return True
        if word in ("more", "less", "so") and nearest in _LINK:
            return False
        if (nearest in _GIVE or nearest in ("charge", "charged")) and word in (
            "one",
            "two",
            "three",
            "four",
            "five",
            "several",
            "many",
        ):
            return False
        if word in ("best", "half") and nearest != "love":
            return True
        return not last
    if nearest in _GIVE - _ASKED and (word in _GOODS or follows in _GOODS) and (last or follows in _GOODS):
        return False
    if nearest in _WISH or (nearest in _DO and word in _DONE):
        return False
    if nearest in _LINK and word in _STATES and last:
        return False
    if word in _WAYS and nearest in _MOVE and last:
        return word == "back" and nearest in ("hold", "put", "turn", "turned", "hit")
    if nearest in _PERCEIVE and word in _BARE:
        return word in _NOUNLIKE and nearest not in (
            "let",
            "lets",
            "letting",
            "make",
            "makes",
            "made",
            "help",
            "helped",
        )
    if word.endswith("ing") and nearest in _CAUGHT and len(word) > 4:
        return word in ("wedding", "clothing", "meaning", "feeling", "feelings", "building", "evening", "morning")
    if word.endswith("ly") and word not in _LY_ADJECTIVES and len(word) > 4:
        return not last and not follows.endswith("ing") and nearest not in _PERCEIVE
    return True
