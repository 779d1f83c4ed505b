"""Documents of many steps, with pictures, for the tests of what is made of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from PIL import Image, ImageDraw

from interleave_thinker.loop.document import Document, DocumentItem, compose
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.trajectory import Attempt, StepResult, Trajectory

SAID = {
    "en": "The fox crosses the river and {} lanterns light up on the far shore. She counts them twice, for the night is "
    "young and the road is long.",
    "ar": "عبرت الثعلبة النهر وأضاءت {} فوانيس على الضفة البعيدة. عدّتها مرتين لأن الليل لا يزال في أوله والطريق طويل.",
    "zh": "狐狸渡过了河，对岸亮起了{}盏灯笼。她数了两遍，因为夜才刚刚开始，路还很长。",
    "ja": "きつねは川を渡り、向こう岸に{}つの灯りがともりました。夜はまだ浅く、道は長いので、彼女は二度数えました。",
}
TITLES = {
    "en": ("The Fox and the Lanterns", "A short tale of a fox who follows the lights home."),
    "ar": ("الثعلبة والفوانيس", "حكاية قصيرة عن ثعلبة تتبع الأضواء إلى بيتها."),
    "zh": ("狐狸与灯笼", "一只狐狸跟着灯光回家的小故事。"),
    "ja": ("きつねと灯り", "灯りをたどって家に帰るきつねのお話。"),
}


def drawn(number: int, size: tuple[int, int]) -> Image.Image:
    """A picture of its own for each number."""
    rng = random.Random(number)
    image = Image.new("RGB", size, tuple(rng.randint(60, 220) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(20):
        x, y, r = rng.randint(0, size[0]), rng.randint(0, size[1]), rng.randint(4, max(5, size[0] // 5))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=tuple(rng.randint(0, 255) for _ in range(3)))
    return image


def made_document(
    language: str = "en", steps: int = 20, size: tuple[int, int] = (512, 512), long: Collection[int] = ()
) -> tuple[Document, Callable[[DocumentItem], Image.Image]]:
    """A document and its pictures. long: steps with a text of two paragraphs."""
    keys = {n: f"{n:064x}" for n in range(1, steps + 1)}
    pictures = {keys[n]: drawn(n, size) for n in keys}

    def text(n: int) -> str:
        said = SAID[language].format(n)
        return "\n\n".join([" ".join([said] * 6), " ".join([said] * 3)]) if n in long else said

    planned = tuple(PlanStep(n, f"Night {n}", None, f"a fox and {n} lanterns", text(n)) for n in keys)
    tried = tuple(Attempt(n, 1, f"a fox and {n} lanterns", n, None, keys[n]) for n in keys)
    results = tuple(StepResult(n, 1, keys[n]) for n in keys)
    title, lead = TITLES[language]
    plan = Plan(planned, "", "Tell me of a fox who follows the lights.", title, lead)
    return compose(Trajectory(plan, tried, results), run="fox", title=plan.headline), lambda i: pictures[i.image_key]
