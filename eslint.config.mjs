// How `python dev.py lint` checks js/ and tests/js/. dev.py installs ESLint into .dev/eslint.
import { createRequire } from "node:module";

const js = createRequire(new URL(".dev/eslint/package.json", import.meta.url))("@eslint/js");

// Only the names of the browser that the code means to use. The full list has `name`, `event`, `open`, `find` and
// `print` in it, so a variable that was never declared would pass for one of the browser's.
const BROWSER = [
  "FormData", "IntersectionObserver", "OffscreenCanvas", "Option", "URL", "URLSearchParams", "clearTimeout", "console",
  "createImageBitmap", "document", "fetch", "navigator", "requestAnimationFrame", "setTimeout", "window",
];

export default [
  { ignores: [".dev/"] },
  {
    files: ["**/*.js", "**/*.mjs"],
    linterOptions: { reportUnusedDisableDirectives: "error" },
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    rules: {
      ...js.configs.recommended.rules,
      eqeqeq: "error",
      "no-shadow": "error",
      "no-useless-rename": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  { files: ["js/**"], languageOptions: { globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])) } },
  { files: ["*.mjs", "tests/js/**"], languageOptions: { globals: { URL: "readonly", structuredClone: "readonly" } } },
];
