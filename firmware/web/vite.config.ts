import { defineConfig } from "vite";

// The Rust server maps `/assets/*` to `dist/assets/*` on both ports and serves each page by its name, so that every address in
// a page is absolute and nothing but `/assets/` is ever asked for.
export default defineConfig({
  base: "/",
  build: {
    outDir: "dist",
    assetsDir: "assets",
    // A file is a file: `data:` addresses would only grow the pages and need a wider policy.
    assetsInlineLimit: 0,
    // hls.js in full is larger than the bundler's default for a warning.
    chunkSizeWarningLimit: 800,
    license: { fileName: "assets/licenses.txt" },
    rolldownOptions: {
      input: { watch: "watch.html", embed: "embed.html", console: "console.html", sync: "sync.html" },
    },
  },
});
