/** The files of a document, as the server makes them: opened, printed, downloaded. */

/** Characters of a title that the server takes; a longer address would be refused. */
const LONGEST_TITLE = 500;

/**
 * @param api ComfyUI's; fetchApi(path)
 * @param toast (severity, text)
 */
export function createDocumentFiles(api, toast, doc = document) {
  const path = ({ run, format, layout, details, workflow, title, language }, asFile) => {
    const asked = new URLSearchParams({ run, format, layout });
    for (const [name, text] of Object.entries({ title: title?.slice(0, LONGEST_TITLE), language })) if (text) asked.set(name, text);
    for (const [name, chosen] of Object.entries({ details, workflow, download: asFile })) if (chosen) asked.set(name, "1");
    return `/interleave_thinker/document?${asked}`;
  };

  const making = new Set();

  /** The server's file, or null; then the user was told why. asked: what the server is to make, or a promise of it. asFile: to be saved. */
  async function made(asked, asFile) {
    let reply;
    try {
      asked = await asked;
      if (!asked.run) {
        toast("warn", "There is no run of this workflow yet. Press Run first.");
        return null;
      }
      reply = await api.fetchApi(path(asked, asFile), { cache: "no-store" });
    } catch (error) {
      toast("error", `ComfyUI does not answer (${error.message}). Is it running?`);
      return null;
    }
    if (reply.ok) return reply;
    const answer = await reply.json().catch(() => ({}));
    toast("error", String(answer.error ?? `The document cannot be made (${reply.status}).`));
    return null;
  }

  async function download(asked) {
    const format = (await Promise.resolve(asked).catch(() => null))?.format; // what went wrong is told below
    if (making.has(format)) return toast("info", "The file is being made. It takes a while for a long run.");
    making.add(format);
    try {
      await save(asked, format);
    } finally {
      making.delete(format);
    }
  }

  async function save(asked, format) {
    const reply = await made(asked, true);
    if (!reply) return;
    const link = doc.createElement("a");
    link.href = addressOf(await reply.blob());
    link.download = fileName(reply.headers.get("Content-Disposition"), format);
    link.click();
  }

  /** The tab comes first, or the browser would take it for a pop-up. A plain address would not say which user asks. */
  async function open(asked) {
    const tab = window.open("", "_blank");
    const reply = await made(asked, false);
    if (!reply) return tab?.close();
    const address = URL.createObjectURL(await reply.blob()); // it stays: the tab may be loaded again, or saved
    if (tab) tab.location.replace(address);
    else toast("warn", "The browser does not allow a new tab here. Download the document instead.");
  }

  /** From a frame that runs no scripts; the page's own print styles apply. */
  async function print(asked) {
    const reply = await made(asked, false);
    if (!reply) return;
    const frame = doc.createElement("iframe");
    frame.style.cssText = "position: fixed; width: 0; height: 0; border: 0";
    frame.title = "Document to print";
    frame.setAttribute("sandbox", "allow-same-origin allow-modals");
    frame.srcdoc = await reply.text();
    await new Promise((loaded) => {
      frame.addEventListener("load", loaded, { once: true });
      doc.body.append(frame);
    });
    await Promise.all([...frame.contentDocument.images].map((image) => image.decode().catch(() => {})));
    frame.contentWindow.print();
    setTimeout(() => frame.remove(), 60_000);
  }

  return { download, open, print };
}

/** An address for a file that was fetched; it goes when the file had its time to load. */
function addressOf(blob) {
  const address = URL.createObjectURL(blob);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  return address;
}

/** The file's name in a Content-Disposition header. */
export function fileName(header, format) {
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(header ?? "")?.[1];
  try {
    return encoded ? decodeURIComponent(encoded) : `document.${format}`;
  } catch {
    return `document.${format}`;
  }
}
