// hls.js's own loader with the playlist guard in front of it.

import Hls, { type HlsConfig, type Loader, type PlaylistLoaderContext } from "hls.js";
import type { PlaylistGuard } from "./playlist";

// hls.js tries again after a server's error, after its usual pause, and not after anything that looks like a verdict on the
// request. An outdated playlist is a server's error: someone on the way served an old copy.
const OUTDATED = 503;

type PlaylistLoader = new (config: HlsConfig) => Loader<PlaylistLoaderContext>;

/** A playlist loader that hands hls.js nothing older than what it had, as `edit` makes it. */
export function guardedLoader(guard: PlaylistGuard, edit: (text: string) => string): PlaylistLoader {
  const Base = Hls.DefaultConfig.loader as unknown as PlaylistLoader;
  return class extends Base {
    constructor(config: HlsConfig) {
      super(config);
      const load = this.load.bind(this);
      this.load = (context, loaderConfig, callbacks) =>
        load(context, loaderConfig, {
          ...callbacks,
          onSuccess: (response, stats, answered, networkDetails) => {
            if (typeof response.data !== "string") return callbacks.onSuccess(response, stats, answered, networkDetails);
            // By the address asked for, without redirects: that is what identifies a playlist to hls.js too.
            const data = guard.pass(answered.url, response.data);
            if (data === null) {
              callbacks.onError({ code: OUTDATED, text: "refused a playlist that goes back" }, answered, networkDetails, stats);
            } else {
              callbacks.onSuccess({ ...response, data: edit(data) }, stats, answered, networkDetails);
            }
          },
        });
    }
  };
}
