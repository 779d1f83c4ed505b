/** Queue a workflow with `enqueue` of @stable-canvas/comfyui-client: `enqueue.mjs URL WORKFLOW NODE OUT`. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@stable-canvas/comfyui-client";
import WebSocket from "ws";

const [url, file, , out] = process.argv.slice(2);
const client = new Client({ api_host: new URL(url).host, WebSocket });
await client.connect();
const result = await client.enqueue(JSON.parse(readFileSync(file, "utf8")), { progress: () => {} });
for (const [number, image] of result.images.entries()) {
  const data = image.type === "url" ? await (await fetch(image.data)).arrayBuffer() : image.data;
  writeFileSync(join(out, `${number}.png`), Buffer.from(data));
}
process.exit(0);
