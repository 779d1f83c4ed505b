"""What the browser tests do in the editor, as a person would."""

from __future__ import annotations

from typing import Any

from comfy_test_graphs import shipped_for_editor


def new_page(browser: Any) -> Any:
    """A page that remembers what went wrong in it: `page.problems`."""
    page = browser.new_page(viewport={"width": 1600, "height": 950})
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda said: page.problems.append(said.text) if is_ours(said) else None)
    return page


def is_ours(said: Any) -> bool:
    """An error or a warning that one of our files wrote, or that is about one."""
    ours = "interleave" in f"{said.location.get('url', '')} {said.text}".lower()
    return said.type in ("error", "warning") and ours


def open_editor(page: Any, comfy: Any, *, nodes2: bool = False) -> None:
    page.goto(comfy.url)
    ready(page)
    set_nodes2(page, nodes2)


def ready(page: Any) -> None:
    """Wait until the editor has opened its workflow, and close the gallery, which a new profile is shown."""
    page.wait_for_function(
        "() => { const editor = window.app?.extensionManager;"
        " return window.app?.graph && editor?.workflow?.activeWorkflow && editor.spinner === false }",
        timeout=120_000,
    )
    gallery = page.get_by_role("dialog")
    if gallery.count():
        page.keyboard.press("Escape")
        gallery.first.wait_for(state="detached")


def set_nodes2(page: Any, on: bool) -> None:
    """Nodes 2.0 draws nodes as elements of the page, not on the canvas."""
    setting, name = "window.app.extensionManager.setting", "Comfy.VueNodes.Enabled"
    if page.evaluate(f"() => Boolean({setting}.get('{name}'))") != on:
        page.evaluate(f"on => {setting}.set('{name}', on)", on)
        page.wait_for_timeout(500)


def load(page: Any, name: str) -> dict[str, Any]:
    graph = shipped_for_editor(name)
    show(page, graph)
    return graph


def show(page: Any, graph: dict[str, Any]) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(800)


def show_api(page: Any, graph: dict[str, Any], name: str) -> None:
    """A workflow in API format, as dragging its file onto the page does."""
    page.evaluate("([graph, name]) => window.app.loadApiJson(graph, name)", [graph, name])
    page.wait_for_timeout(800)


def queue(page: Any) -> None:
    page.evaluate("async () => { await window.app.queuePrompt(0) }")


def command(page: Any, name: str) -> None:
    page.evaluate("name => { window.app.extensionManager.command.execute(name) }", name)


def prompt(page: Any) -> dict[str, Any]:
    return dict(page.evaluate("async () => (await window.app.graphToPrompt()).output"))


def set_value(page: Any, node: int, widget: str, value: Any) -> None:
    page.evaluate(
        "([id, name, value]) => { const w = window.app.graph.getNodeById(id).widgets.find(w => w.name === name);"
        " w.value = value; w.callback?.(value) }",
        [node, widget, value],
    )


def value(page: Any, node: int, widget: str) -> Any:
    return page.evaluate(
        "([id, name]) => window.app.graph.getNodeById(id).widgets.find(w => w.name === name).value", [node, widget]
    )


def look_at(page: Any, node: int) -> None:
    page.evaluate(
        "id => { const canvas = window.app.canvas; canvas.ds.scale = 1;"
        " canvas.centerOnNode(window.app.graph.getNodeById(id)); canvas.setDirty(true, true) }",
        node,
    )
    page.wait_for_timeout(600)


def strip(page: Any) -> list[list[list[str]]]:
    """Per view and step: the labels of the attempts."""
    found: list[list[list[str]]] = page.evaluate(
        "() => [...document.querySelectorAll('.itk')].map(view => [...view.querySelectorAll('.itk-step')].map("
        "step => [...step.querySelectorAll('button.itk-thumb')].map(b => b.getAttribute('aria-label'))))"
        ".filter(view => view.length)"
    )
    return found


def open_sidebar(page: Any) -> None:
    page.keyboard.press("Escape")
    page.locator(".side-bar-button", has_text="Interleave").first.click()
    page.wait_for_timeout(500)


def wait_until(page: Any, condition: Any, seconds: int = 180) -> None:
    for _ in range(seconds * 5):
        if condition():
            return
        page.wait_for_timeout(200)
    raise AssertionError("waited in vain")


def finished(comfy: Any) -> list[dict[str, Any]]:
    return [h for h in comfy.get("/history").values() if h["status"]["completed"]]
