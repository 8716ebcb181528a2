// Bundles the daemon for release: `dist/main.mjs` and what it starts as processes of their own. Native addons and
// packages that find files beside themselves stay outside, in node_modules.

import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build as bundle, type Plugin } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');

/** zod brings its messages in 60 languages; ours are English. */
const englishOnly: Plugin = {
  name: 'zod-english-only',
  setup(build) {
    build.onLoad({ filter: /node_modules\/zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js';",
      loader: 'js',
    }));
  },
};

/** Of modbus-serial only the codec and the TCP server are used; it does without its serial ports where there is no serialport. */
const modbusCodecOnly: Plugin = {
  name: 'modbus-codec-only',
  setup(build) {
    build.onResolve({ filter: /^serialport$/ }, ({ path, importer }) =>
      importer.includes('/node_modules/modbus-serial/') ? { path, namespace: 'absent' } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'absent' }, ({ path }) => ({
      contents: `throw new Error('${path} is not loaded here');`,
    }));
  },
};

/** The MQTT libraries ask `debug` several times a packet whether to say something; it never does here. */
const withoutDebug: Plugin = {
  name: 'without-debug',
  setup(build) {
    build.onResolve({ filter: /^debug$/ }, ({ path }) => ({ path, namespace: 'silent' }));
    build.onLoad({ filter: /.*/, namespace: 'silent' }, () => ({
      contents: 'const silent = () => {}; silent.enabled = false; module.exports = () => silent;',
    }));
  },
};

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
await bundle({
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
  // Names stay as they are written, so that stacks can be read; the rest is memory: V8 keeps the text of what it has loaded.
  // `keepNames` would cost each closure a call when it is made, of which the broker makes dozens for a message.
  minifyWhitespace: true,
  minifySyntax: true,
  plugins: [englishOnly, modbusCodecOnly, withoutDebug],
  legalComments: 'none',
  external: ['classic-level', 're2js', '@serialport/bindings-cpp', 'systeminformation', 'pino', 'thread-stream'],
  // Bundled CommonJS packages call require() for built-in modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});

// Found beside the bundle, as they are beside the module in the sources.
cpSync(join(ROOT, 'modules', 'modbus', 'profiles'), join(ROOT, 'dist', 'profiles'), { recursive: true });
