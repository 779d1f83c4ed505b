import { test } from "node:test";
import assert from "node:assert/strict";
import { STYLE } from "../../js/style.mjs";

/** Defined in each palette of the frontends 1.47 and 1.58; tests/browser/test_colors.py reads them there. */
const THEME = ["fg-color", "bg-color", "comfy-menu-bg", "comfy-input-bg", "error-text", "primary-background", "color-gold-600", "color-jade-600"];

test("every colour is one of the editor's theme, or a mix of these", () => {
  const used = [...STYLE.matchAll(/var\(--([\w-]+)/g)].map(([, name]) => name);
  const own = [...STYLE.matchAll(/(--itk-[\w-]+):/g)].map(([, name]) => name.slice(2));
  assert.deepEqual([...new Set(used)].filter((name) => !THEME.includes(name) && !own.includes(name)), []);
  assert.deepEqual(own.filter((name) => !used.includes(name)), [], "no colour is defined for nobody");
  assert.deepEqual(STYLE.match(/#[0-9a-f]{3,8}\b|\b(rgb|hsl|lab|lch|oklab|oklch|hwb)a?\(/gi), null);
  const named = [...STYLE.matchAll(/(?:color|background|border|outline)[\w-]*:([^;}]*)/g)].flatMap(([, value]) => value.replace(/var\([^)]*\)|in srgb/g, "").match(/[a-z-]+/gi) ?? []);
  const plain = ["color-mix", "solid", "dashed", "dotted", "px", "inherit", "transparent", "currentColor", "none"];
  assert.deepEqual([...new Set(named)].filter((word) => !plain.includes(word)), []);
});
