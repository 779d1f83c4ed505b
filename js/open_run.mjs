/**
 * "?interleave_run=NAME" in the page's address: the page opens with that saved run in the sidebar and its workflow, as
 * `dev.py demo --open` asks for. Only a run that the sidebar's list has is opened; NAME is compared and nothing else.
 */
const PARAMETER = "interleave_run";
const PAUSE = 100; // ms between two looks
const PATIENCE = 120_000; // ms: the first start of an editor on a busy machine

/**
 * `tools.openSidebar()` shows the sidebar, `tools.list()` gives its list of saved runs (a select; null where it is not
 * there yet), `tools.openWorkflow(name, tab)` opens the run's workflow in the place of that of `tab`; `tools.warn(text)`.
 */
export async function openAskedRun(app, tools, address = window.location) {
  const name = new URLSearchParams(address.search).get(PARAMETER);
  if (!name) return;
  try {
    await app.extensionManager.setting.set("Comfy.TutorialCompleted", true); // else a new user's editor opens the gallery
    await until(() => isReady(app));
    tools.openSidebar();
    if (!has(await until(() => filled(tools.list())), name)) return tools.warn(`There is no saved run ${name.slice(0, 100)}.`);
    await tools.openWorkflow(name, app.extensionManager.workflow.activeWorkflow);
    const list = await until(() => filled(tools.list())); // another one where the editor drew the sidebar anew
    list.value = name;
    list.dispatchEvent(new window.Event("change"));
  } finally {
    forget(address);
  }
}

function filled(list) {
  return list?.options.length ? list : null;
}

function has(list, name) {
  return [...list.options].some((option) => option.value === name);
}

/** Whether the editor has opened the workflow that it starts with. */
function isReady(app) {
  const editor = app.extensionManager;
  return Boolean(editor?.workflow?.activeWorkflow && editor.spinner === false);
}

/** A page that is loaded again opens what was open, not the run once more. */
function forget(address) {
  const url = new URL(address.href);
  url.searchParams.delete(PARAMETER);
  window.history.replaceState(window.history.state, "", url);
}

async function until(look) {
  for (const end = Date.now() + PATIENCE; ; await new Promise((go) => setTimeout(go, PAUSE))) {
    const found = look();
    if (found) return found;
    if (Date.now() > end) throw new Error("The editor did not open in time to show the run that its address names.");
  }
}
