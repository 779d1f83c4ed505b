"""What the generator is taught to make of unknown words has to be the same each time, or it learns to draw mush."""

import random

import pytest

pytest.importorskip("transformers")

from transformers import CLIPTokenizer

from interleave_thinker.research.tinyworld.unknown_words import DEFAULT, UnknownWords
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.language import SYNONYMS, random_edit
from interleave_thinker.tinyworld.scene import ATTRIBUTES, random_scene

RICH = {word for many in SYNONYMS.values() for word in many}


@pytest.fixture(scope="module")
def unknown_words():
    rng = random.Random(1)
    scenes = [random_scene(rng) for _ in range(5000)]
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "generator" / "tokenizer")
    return UnknownWords(tokenizer.get_vocab(), scenes, rng)


def test_a_word_of_the_world_is_no_unknown_word(unknown_words):
    assert len(unknown_words.words) > 10_000
    assert not set(unknown_words.words) & (RICH | set(SYNONYMS) | {"turn", "morph", "resting", "over"})


def test_what_a_caption_does_not_name_is_the_default(unknown_words):
    unnamed = 0
    for _ in range(500):
        index, text = unknown_words.caption()
        scene, words = unknown_words.scenes[index], text.split()
        for name in ATTRIBUTES:
            if getattr(scene, name) not in words:
                assert getattr(scene, name) == getattr(DEFAULT, name)
                unnamed += 1
    assert unnamed > 300


def test_an_edit_takes_effect_if_verb_and_value_are_known_and_the_background_is_named(unknown_words):
    effects = []
    for scene in unknown_words.scenes[:1000]:
        edit = random_edit(scene, unknown_words.rng)
        text, takes_effect = unknown_words.instruction(edit, scene)
        verbs = {unknown_words.plain.instruct(edit, scene).split()[0] for _ in range(30)}
        words = text.split()
        named = bool(verbs & set(words)) and (not edit.value or edit.value in words)
        assert takes_effect == named, (text, edit)
        if takes_effect and edit.kind == "background":
            assert "background" in words, "else it would be about the shape"
        effects.append(takes_effect)
    assert 0.3 < sum(effects) / len(effects) < 0.8
