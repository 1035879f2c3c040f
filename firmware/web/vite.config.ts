import { build, defineConfig, type Plugin } from "vite";

/** Puts a page's script into the page. */
function inline(): Plugin {
  return {
    name: "inline",
    enforce: "post",
    generateBundle(_, bundle) {
      const files = Object.values(bundle);
      const page = files.find((file) => file.type === "asset" && file.fileName.endsWith(".html"));
      const script = files.find((file) => file.type === "chunk");
      if (page?.type !== "asset" || script?.type !== "chunk") throw new Error("the player is a page and its script");
      const code = script.code.replaceAll("</script", "<\\/script");
      const html = page.source.toString();
      page.source = html.replace(/<script [^>]*src=[^>]*><\/script>/, () => `<script type="module">${code}</script>`);
      if (!page.source.includes(code)) throw new Error("the player's script has no place in its page");
      delete bundle[script.fileName];
    },
  };
}

/** `player.html` is copied into every broadcast, so it is one file and a build of its own. */
function player(): Plugin {
  return {
    name: "player",
    async closeBundle() {
      await build({
        configFile: false,
        logLevel: "warn",
        plugins: [inline()],
        build: {
          outDir: "dist",
          emptyOutDir: false,
          modulePreload: false,
          chunkSizeWarningLimit: 800,
          rolldownOptions: { input: "player.html" },
        },
      });
    },
  };
}

// The Rust server maps `/assets/*` to `dist/assets/*` on both ports and serves each page by its name, so that every address in
// a page is absolute and nothing but `/assets/` is ever asked for.
export default defineConfig({
  base: "/",
  plugins: [player()],
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
