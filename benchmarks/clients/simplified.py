"""Queue a workflow with comfy-api-simplified, which has this script's Python: `simplified.py URL WORKFLOW NODE OUT`.

It names the node by its title and writes what it returns into the folder OUT.
"""

import json
import sys
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

url, workflow, node, out = sys.argv[1:]
title = json.loads(Path(workflow).read_text(encoding="utf-8"))[node]["_meta"]["title"]
found = ComfyApiWrapper(url).queue_and_wait_images(ComfyWorkflowWrapper(workflow), title)
for name, data in found.items():
    (Path(out) / Path(name).name).write_bytes(data)
