import { expect, test } from "vitest";
import lock from "../package-lock.json?raw";

interface Entry {
  resolved?: string;
  engines?: unknown;
}

const packages = Object.entries((JSON.parse(lock) as { packages: Record<string, Entry> }).packages);

test("the lock names no registry", () => {
  expect(packages.filter(([, entry]) => entry.resolved !== undefined)).toEqual([]);
});

// Debian 12's npm runs on node 18 and silently leaves out an optional package that asks for a newer one, although the build
// itself runs on the node from `node_modules/.bin`. After an update of Vite, delete these `engines` from the lock again.
test("Debian's npm installs the bundler's native part", () => {
  const bindings = packages.filter(([path]) => path.includes("@rolldown/binding-"));
  expect(bindings.length).toBeGreaterThan(0);
  expect(bindings.filter(([, entry]) => entry.engines !== undefined).map(([path]) => path)).toEqual([]);
});
