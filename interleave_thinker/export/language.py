"""Which language a text is written in, and in which direction: what a page needs to be read aloud and set right.

Scripts tell most languages apart; those that share one are told by their commonest words. No guess is better than a
wrong one: a screen reader then uses its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final, Literal

Direction = Literal["ltr", "rtl"]

LOOKED_AT = 4_000
"""Characters of a text."""
_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_SCRIPTS = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "ARABIC": "ar", "HEBREW": "he", "GREEK": "el",
    "THAI": "th", "DEVANAGARI": "hi", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GEORGIAN": "ka",
    "ARMENIAN": "hy", "CYRILLIC": "ru", "LATIN": "",
}  # fmt: skip
_RIGHT_TO_LEFT = {"ar", "he", "fa", "ur", "yi", "ps", "sd", "ug", "dv"}
_LETTERS = {"uk": set("іїєґ"), "fa": set("پچژگ"), "ur": set("ٹڈڑےں")}
"""Letters that one language has of those that share a script."""
_WORDS = {
    "en": "the and of to in is with for that it on as are this from",
    "de": "der die das und ist nicht mit ein eine den dem von zu auf für sich",
    "fr": "le la les et est une des dans pour que qui avec sur pas du",
    "es": "el los las y es una por con para que del se al como más",
    "pt": "o os as e é uma não com para que do da em no na se",
    "it": "il lo gli e è una per con che di del della non si nel",
    "nl": "de het een en is van niet met op te voor dat zijn aan",
    "pl": "i w na z się nie to jest do że po jak od przez",
    "sv": "och att det en ett som är inte på med för av den till",
    "tr": "ve bir bu için ile da de çok olarak gibi daha ama",
    "vi": "và của là một các được trong có không cho với người",
    "id": "dan yang di dengan untuk ini itu dari pada tidak adalah ke",
}
_FREQUENT = {language: frozenset(words.split()) for language, words in _WORDS.items()}


def language_of(text: str) -> str:
    """A BCP 47 tag such as "en" or "zh"; "" where the text does not tell."""
    text = text[:LOOKED_AT].lower()
    scripts = Counter(script for c in text if c.isalpha() and (script := _script(c)))
    if not scripts:
        return ""
    if sum(scripts[kana] for kana in ("HIRAGANA", "KATAKANA")) * 10 > scripts["CJK"] > 0:
        return "ja"
    script = scripts.most_common(1)[0][0]
    if script == "LATIN":
        return _by_words(text)
    letters = set(text)
    special = {"CYRILLIC": ("uk",), "ARABIC": ("ur", "fa")}.get(script, ())
    return next((language for language in special if letters & _LETTERS[language]), _SCRIPTS[script])


def direction_of(text: str, language: str = "") -> Direction:
    """Of most of its letters; of the language where it has none."""
    sides = Counter(unicodedata.bidirectional(c) for c in text[:LOOKED_AT] if c.isalpha())
    right, left = sides["R"] + sides["AL"], sides["L"]
    if right == left:
        return "rtl" if language.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"
    return "rtl" if right > left else "ltr"


def is_language(tag: str) -> bool:
    """Whether a text has the form of a language tag (BCP 47), such as "en" or "pt-BR"."""
    return bool(_TAG.fullmatch(tag))


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "").partition(" ")[0]
    return first if first in _SCRIPTS else ""


def _by_words(text: str) -> str:
    """The one language whose frequent words are there most often; "" where two are alike, or it has less than two."""
    words = Counter(re.findall(r"[^\W\d_]+", text))
    counts = {language: sum(words[w] for w in frequent) for language, frequent in _FREQUENT.items()}
    (best, most), (_, second) = Counter(counts).most_common(2)
    return best if most > second and len(_FREQUENT[best] & words.keys()) > 1 else ""
