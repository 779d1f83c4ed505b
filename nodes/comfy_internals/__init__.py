"""ComfyUI's insides. Nothing else in the pack touches what is not ComfyUI's public API.

Each is imported when it is used. If a ComfyUI lacks one, the log says so once (`missing.py` has the words), and the
pack goes on with less:

| internal | use | without it |
|---|---|---|
| executor's `caches`, on the call stack | drop the outputs of earlier attempts | memory grows with each attempt |
| key sets of these caches | the same before ComfyUI 0.36; short keys | memory and time grow |
| `execution.IsChangedCache` | what nodes say of their files | the node classes are asked directly |
| `comfy_execution.progress` | drop the progress entries of earlier attempts | progress messages grow |
| the same | when outputs without sockets have run | each placed one counts as run |
| outputs in these caches | name the node that blocks an attempt | the error names the last node that can |
| `comfy_execution.utils.get_executing_context` | id of the running prompt | the prompt that the server took last |
| `prompt_queue`'s running items | whose prompt runs (`--multi-user`) | runs lie in the folder of an unknown user |
| the same | which outputs the prompt is to run | all outputs beside a loop's image run |
| `user_manager.get_request_user_id` | who sends a request (`--multi-user`) | the same |
| `PromptServer.sockets_metadata` | which client is an editor | API clients get texts that some take for pictures |
| `PromptServer.send_progress_text` | an agent's text on its node while it writes | the text comes at the end |
| `comfy.model_patcher.ModelPatcher` | Load Agent under ComfyUI's memory manager | the model is moved for each reply |
| parts of CLIP, such as `process_tokens` | Agent from CLIP token by token | `clip.generate`: no text before the end |
| `comfy.model_prefetch.cleanup_prefetch_queues` | let go of GPU graphs between two such replies | there are none |
| `patcher.cached_patcher_init` | file names of a CLIP, for its name | recall takes two files of one kind for the same |
| the log's "Requested to load" | count the models that an attempt loads | they are not counted |
| `comfyui_version` | refuse an old ComfyUI | any version is taken |

From ComfyUI 0.36 on a node may ask for the hidden `execution_list`. It leads to the outputs and is preferred.

Not here, because published packs rely on them: `comfy_api.latest`, `folder_paths`, `comfy_execution.graph_utils`,
`nodes.NODE_CLASS_MAPPINGS` and what the classes in it declare, the getters of the hidden `dynprompt`,
`comfy.cli_args.args`, functions of `comfy.model_management`, and of `PromptServer` the routes, `send_sync`, `app`,
`client_id` and `add_on_prompt_handler`.
"""
