"""The shipped workflows as a new user meets them: in the gallery, and opened from it."""

from __future__ import annotations

import pytest
from comfy_test_graphs import PAGES, shipped_for_editor
from editor_page import command, show

SMALL = {"width": 1280, "height": 720}
TITLES = sorted(page.title for page in PAGES.values())
SIZES = """() => window.app.graph.nodes.map(node => ({
  id: node.id,
  type: node.type,
  needs: node.computeSize()[1],
  boxes: (node.widgets ?? []).filter(widget => widget.type === 'customtext').length,
}))"""
ROOM = {
    "InterleaveThinkerSaveDocument": 420,
    "PreviewImage": 270,
    "SaveImage": 270,
    "LoadImage": 230,
    "InterleaveThinkerPlanner": 120,
    "InterleaveThinkerCriticRefine": 100,
    "InterleaveThinkerJudgment": 100,
    "PreviewAny": 60,
}
"""What a node shows when it has run, in pixels of the graph. A box to type in is larger than its least size."""
TYPING, SPARE = 70, 30
NOTE = """title => {
  const { graph, canvas } = window.app;
  const node = graph.nodes.find(n => n.title === title);
  canvas.ds.scale = 1;
  canvas.centerOnNode(node);
  canvas.draw(true, true);
  return new Promise(done => setTimeout(() => {
    const whole = document.querySelector(`[data-node-id='${node.id}']`) ?? node.widgets[0].element;
    const text = [...whole.querySelectorAll('.comfy-markdown-content, .tiptap')].find(part => part.offsetParent);
    const [all, last] = [whole, text.lastElementChild].map(part => part.getBoundingClientRect());
    done([all.height, last.bottom - all.top]);
  }, 400));
}"""
"""Height of a note, and of its text from the note's top."""


def gallery(page):
    """The cards of this pack."""
    command(page, "Comfy.BrowseTemplates")
    dialog = page.get_by_role("dialog").first
    ours = dialog.get_by_text("interleave-thinker", exact=True)
    dialog.get_by_text("Extensions", exact=True).first.wait_for()
    if not ours.count():
        dialog.get_by_text("Extensions", exact=True).first.click()
    ours.first.click(timeout=120_000)
    cards = dialog.locator("[data-testid^=template-workflow-]")
    cards.nth(len(TITLES) - 1).wait_for()
    return cards


def open_from_gallery(page, title):
    gallery(page).filter(has_text=title).first.click()
    page.wait_for_function(
        "title => window.app.extensionManager.workflow.activeWorkflow?.filename === title", arg=title, timeout=60_000
    )
    page.wait_for_timeout(1000)


def places(page, *titles):
    """Left, top, right and bottom in the window, of nodes by title or kind."""
    return page.evaluate(
        """titles => titles.map(title => {
          const { ds } = window.app.canvas;
          const node = window.app.graph.nodes.find(n => n.title === title || n.type === title);
          const [x, y, width, height] = node.getBounding();
          return [x, y, x + width, y + height].map((side, i) => (side + ds.offset[i % 2]) * ds.scale);
        })""",
        list(titles),
    )


def test_the_gallery_names_ours_in_words_and_begins_with_what_runs_anywhere(own_editor):
    page, _ = own_editor
    page.set_viewport_size(SMALL)
    cards = gallery(page)
    names = [card.get_attribute("data-testid").removeprefix("template-workflow-") for card in cards.all()]
    assert names == TITLES
    assert names[0] == PAGES["tiny_story"].title
    for card in cards.all():
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first
        page.wait_for_function("picture => picture.naturalWidth === 512", arg=picture.element_handle())
    assert page.problems == []


@pytest.mark.parametrize("name", ["flux2_klein_story", pytest.param("critic_on_any_graph", marks=pytest.mark.slow)])
def test_a_template_opens_readable_at_its_note_and_later_as_it_was_left(own_editor, name):
    page, _ = own_editor
    page.set_viewport_size(SMALL)
    open_from_gallery(page, PAGES[name].title)
    assert page.evaluate("() => window.app.canvas.ds.scale") > 0.8
    request = "Prompt" if name == "critic_on_any_graph" else "InterleaveThinkerPlanner"
    for left, top, right, bottom in places(page, "START HERE", request):
        assert left > 60 and top > 90 and right < SMALL["width"] and bottom < SMALL["height"]
    saved = page.evaluate("() => window.app.graph.serialize()")
    saved["extra"]["ds"] = {"scale": 0.5, "offset": [7, 9]}
    show(page, saved)
    assert page.evaluate("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]") == [0.5, 7, 9]
    assert page.problems == []


@pytest.mark.slow
def test_nodes_are_as_large_as_what_they_hold(own_editor):
    page, _ = own_editor
    for name in PAGES:
        graph = shipped_for_editor(name)
        show(page, graph)
        said = {str(node["id"]): node["size"][1] for node in graph["nodes"]}
        for node in page.evaluate(SIZES):
            if node["type"] != "MarkdownNote":
                spare = SPARE + TYPING * node["boxes"] + ROOM.get(node["type"], 0)
                assert said[str(node["id"])] - node["needs"] <= spare, (name, node)


@pytest.mark.slow
def test_notes_are_as_high_as_their_text(own_editor):
    """Cut nowhere; at most a third of a note is empty."""
    page, _ = own_editor
    for name in PAGES:
        show(page, shipped_for_editor(name))
        for title in ("START HERE", "About this workflow"):
            shown, needed = page.evaluate(NOTE, title)
            assert needed <= shown <= needed * 1.5 + 40, (name, title)
