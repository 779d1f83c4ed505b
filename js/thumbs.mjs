/** Small copies of pictures: sixty attempts at full size, in two views, would fill the tab's memory with pixels. */

const EDGE = 136; // twice a thumbnail's, for dense screens
const MOST = 1000;

/**
 * A function from a picture's address to that of its small copy: "" until it is made, then `onReady` is called;
 * the address itself where it cannot be made.
 */
export function createThumbs(onReady) {
  const known = new Map();
  return (address) => {
    const found = known.get(address);
    if (found !== undefined) return found;
    if (known.size >= MOST) forget(known);
    known.set(address, "");
    shrink(address)
      .then((small) => known.set(address, small))
      .catch(() => known.set(address, address))
      .then(onReady);
    return "";
  };
}

async function shrink(address) {
  const reply = await fetch(address);
  if (!reply.ok) throw new Error(String(reply.status));
  const whole = await createImageBitmap(await reply.blob());
  const scale = Math.min(1, EDGE / Math.max(whole.width, whole.height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(whole.width * scale)), Math.max(1, Math.round(whole.height * scale)));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp", quality: 0.9 }));
}

/** The oldest goes. */
function forget(known) {
  const [address, small] = known.entries().next().value;
  if (small.startsWith("blob:")) URL.revokeObjectURL(small);
  known.delete(address);
}
