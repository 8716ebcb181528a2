// The entry, and the only file that imports modules/: the list of what this build can speak. Each entry is light; the
// protocol libraries are loaded when the configuration uses them.

import { readFileSync } from 'node:fs';
import { modbus } from '../modules/modbus/index.ts';
import { simulator } from '../modules/simulator/index.ts';
import { upstreamLocal } from '../modules/upstream-local/index.ts';
import { upstreamMqtt } from '../modules/upstream-mqtt/index.ts';
import { runCli } from './cli/cli.ts';
import type { ModuleDefinition } from './core/module.ts';

export const MODULES: readonly ModuleDefinition[] = [modbus, simulator, upstreamLocal, upstreamMqtt];

/** `src/main.ts` and `dist/main.mjs` both stand one folder below package.json. */
function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

if (import.meta.main) {
  process.exitCode = await runCli(process.argv.slice(2), {
    modules: MODULES,
    web: { load: async () => (await import('../modules/web/index.ts')).createWebServer },
    version: version(),
    env: process.env,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  });
}
