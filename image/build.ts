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

/** What libraries bring for uses that are not ours, as package and importing package; V8 keeps the text of what it loads. */
const UNUSED: Readonly<Record<string, string>> = {
  // Of modbus-serial only the codec and the TCP server are used; it does without its serial ports where there is no serialport.
  serialport: 'modbus-serial',
  // For tests of fastify's users.
  'light-my-request': 'fastify',
};

/** The same for packages that are wanted as soon as their importer is loaded, although it makes no use of them. */
const UNUSED_BUT_LOADED: Readonly<Record<string, string>> = {
  // The dial is ours, proxies included; browsers keep time in workers, Node does not.
  socks: 'mqtt',
  'worker-timers': 'mqtt',
  // Versions that fastify's plugins ask for, of which there are none; proxies in front, which are not trusted.
  semver: 'fastify',
  'ipaddr.js': '@fastify/proxy-addr',
  // Exemplars of traces.
  '@opentelemetry/api': 'prom-client',
};

/** Of systeminformation, which loads 700 KB at once, what the load, the memory and the temperature need. */
const HOST_PARTS: ReadonlySet<string> = new Set(['./cpu', './memory', './util']);

/** Makers of compilers for schemas of fastify's, which no route of ours has: zod checks what comes in. */
const SCHEMA_COMPILERS = /^@fastify\/(?:ajv-compiler|fast-json-stringify-compiler)$/;

const withoutUnused: Plugin = {
  name: 'without-unused',
  setup(build) {
    const importedBy = (packages: typeof UNUSED, path: string, importer: string): boolean =>
      Object.hasOwn(packages, path) && importer.includes(`/node_modules/${packages[path]}/`);
    build.onResolve({ filter: /^[@a-z]/ }, ({ path, importer }) => {
      if (importedBy(UNUSED, path, importer)) return { path, namespace: 'absent' };
      return importedBy(UNUSED_BUT_LOADED, path, importer) ? { path, namespace: 'empty' } : undefined;
    });
    build.onResolve({ filter: /^\.\// }, ({ path, importer }) => {
      if (!importer.endsWith('/node_modules/systeminformation/lib/index.js')) return undefined;
      return HOST_PARTS.has(path) ? undefined : { path, namespace: 'empty' };
    });
    build.onResolve({ filter: SCHEMA_COMPILERS }, ({ path }) => ({ path, namespace: 'compiler' }));
    build.onLoad({ filter: /.*/, namespace: 'compiler' }, ({ path }) => ({
      contents: `module.exports = () => () => { throw new Error('${path} is not loaded here'); };`,
    }));
    build.onLoad({ filter: /.*/, namespace: 'absent' }, ({ path }) => ({
      contents: `throw new Error('${path} is not loaded here');`,
    }));
    build.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: 'module.exports = {};' }));
  },
};

/**
 * Parts of the runtime that are imported at once and used late or never: each is loaded when something of it is used.
 * node:http2 alone takes 9 MB, node:tls 5. An import statement of node:http reads each of its exports, its WebSocket
 * included, which loads 760 KB of a library that is never used.
 */
const LAZY_BUILTINS: readonly string[] = ['http', 'http2', 'https', 'tls', 'cluster', 'readline'];

const lazyBuiltins: Plugin = {
  name: 'lazy-builtins',
  setup(build) {
    const filter = new RegExp(`^(?:node:)?(?:${LAZY_BUILTINS.join('|')})$`);
    build.onResolve({ filter }, ({ path, namespace }) =>
      namespace === 'lazy'
        ? { path, external: true }
        : { path: `node:${path.replace('node:', '')}`, namespace: 'lazy' },
    );
    build.onLoad({ filter: /.*/, namespace: 'lazy' }, ({ path }) => {
      const names = Object.keys(process.getBuiltinModule(path) ?? {});
      // Getters stay getters when the bundle makes an import of it.
      return {
        contents: `for (const name of ${JSON.stringify(names)}) {
          Object.defineProperty(exports, name, { enumerable: true, get: () => require('${path}')[name] });
        }`,
      };
    });
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
  entryPoints: {
    main: 'src/main.ts',
    simulator: 'modules/simulator/server.ts',
    x509: 'src/platform/x509-process.ts',
  },
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
  plugins: [englishOnly, withoutUnused, lazyBuiltins, withoutDebug],
  legalComments: 'none',
  external: ['classic-level', 're2js', 'sparkplug-payload', '@serialport/bindings-cpp', 'pino', 'thread-stream'],
  // Bundled CommonJS packages call require() for built-in modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});

// Found beside the bundle, as they are beside the module in the sources.
cpSync(join(ROOT, 'modules', 'modbus', 'profiles'), join(ROOT, 'dist', 'profiles'), { recursive: true });
