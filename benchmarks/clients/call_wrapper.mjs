/** Queue a workflow with the CallWrapper of @saintno/comfyui-sdk: `call_wrapper.mjs URL WORKFLOW NODE OUT`. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";

const [url, file, node, out] = process.argv.slice(2);
const workflow = JSON.parse(readFileSync(file, "utf8"));
const api = await new ComfyApi(url).init().waitForReady();
const builder = new PromptBuilder(workflow, [], ["document"]).setOutputNode("document", node);
const result = await new CallWrapper(api, builder).onFailed((error) => console.error(error)).run();
for (const image of result?.document?.images ?? []) {
  const blob = await api.getImage(image);
  writeFileSync(join(out, image.filename), Buffer.from(await blob.arrayBuffer()));
}
process.exit(result ? 0 : 1);
