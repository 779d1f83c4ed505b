"""Other ComfyUIs than the one that is installed: copies of its tree in which names or passages are changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from comfy_server import COMFYUI

Edit = Callable[[str, str], str]
"""Path below the tree and text of a Python file -> its new text. Also asked about the file's name."""
_NOT_COPIED = {".git", "custom_nodes", "input", "models", "output", "temp", "tests", "tests-unit", "user"}


def renamed(old: str, new: str) -> Edit:
    """As if upstream had renamed something: every file agrees on the new name."""
    word = re.compile(rf"\b{old}\b")
    return lambda path, text: word.sub(new, text)


def copy_comfyui(target: Path, *edits: Edit) -> Path:
    """Python files are copied, for ComfyUI looks for its folders beside them; everything else is linked."""
    for source in COMFYUI.rglob("*"):
        path = source.relative_to(COMFYUI)
        if path.parts[0] in _NOT_COPIED or source.is_dir():
            continue
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".pyc":
            shutil.copy2(source, copy)
        elif source.suffix != ".py":
            copy.symlink_to(source)
        else:
            text = changed = source.read_text(encoding="utf-8")
            for edit in edits:
                changed, copy = edit(path.as_posix(), changed), copy.with_stem(edit("", copy.stem))
            if changed == text:
                shutil.copy2(source, copy)  # with its time, so that its .pyc is still good
            else:
                copy.write_text(changed, encoding="utf-8")
    for name in ("custom_nodes", "input", "models", "output"):
        (target / name).mkdir()
    return target


def newer_comfyui(path: str, text: str) -> str:
    """What our nodes use of ComfyUI 0.36: the hidden `execution_list`, whose `output_cache` can `remove_local`.

    It says in the log which outputs it removes.
    """
    for file, before, added in _NEWER:
        if path == file and added not in text:  # or it is as new as that
            assert text.count(before) == 1, (file, before)
            text = text.replace(before, before + added)
    return text.replace(_REMOVE, _REMOVE + _SAY) if path == _CACHING else text


_LATEST = "comfy_api/latest/_io.py"
_CACHING = "comfy_execution/caching.py"
_REMOVE = "    def remove_local(self, node_id):\n"
_SAY = '        print("REMOVED", node_id, self.get_local(node_id) is not None, flush=True)\n'
_NEWER = [
    (_LATEST, '    comfy_usage_source = "COMFY_USAGE_SOURCE"\n', '    execution_list = "EXECUTION_LIST"\n'),
    (
        _LATEST,
        "        self.comfy_usage_source = comfy_usage_source\n",
        '        self.execution_list = kwargs.get("execution_list")\n',
    ),
    (
        _LATEST,
        "            comfy_usage_source=d.get(Hidden.comfy_usage_source, None),\n",
        "            execution_list=d.get(Hidden.execution_list, None),\n",
    ),
    (
        "execution.py",
        '                hidden_inputs_v3[io.Hidden.comfy_usage_source] = extra_data.get("comfy_usage_source", None)\n',
        "            if io.Hidden.execution_list.name in hidden:\n"
        "                hidden_inputs_v3[io.Hidden.execution_list] = execution_list\n",
    ),
    (
        _CACHING,
        "class BasicCache:\n",
        _REMOVE + "        key = self.cache_key_set.get_data_key(node_id)\n"
        "        for name in ('cache', 'used_generation', 'children', 'timestamps'):\n"
        "            getattr(self, name, {}).pop(key, None)\n\n",
    ),
]
