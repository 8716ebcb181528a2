// Bundles the daemon for release: `dist/main.mjs` and what it starts as processes of their own. Native addons and
// packages that find files beside themselves stay outside, in node_modules.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
await build({
  absWorkingDir: ROOT,
  entryPoints: { main: 'src/main.ts', simulator: 'modules/simulator/server.ts' },
  outdir: 'dist',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // Modules stay lazy in the bundle as they are in the sources: an unused protocol costs no memory.
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  minify: false,
  keepNames: true,
  legalComments: 'none',
  external: ['classic-level', '@serialport/bindings-cpp', 'systeminformation', 'pino', 'thread-stream'],
  // Bundled CommonJS packages call require() for built-in modules.
  banner: { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" },
  logLevel: 'warning',
});
