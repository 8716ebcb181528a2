// The entry, and the only file that imports modules/: the list of what this build can speak. Each entry is light; the
// protocol libraries are loaded when the configuration uses them.

import { readFileSync } from 'node:fs';
import { hubHttps } from '../modules/hub-https/index.ts';
import { hubMqtt } from '../modules/hub-mqtt/index.ts';
import { hubAmqp } from '../modules/hub-amqp/index.ts';
import { modbus } from '../modules/modbus/index.ts';
import { mqtt } from '../modules/mqtt/index.ts';
import { serial } from '../modules/serial/index.ts';
import { simulator } from '../modules/simulator/index.ts';
import { upstreamAmqp } from '../modules/upstream-amqp/index.ts';
import { upstreamIotHub } from '../modules/upstream-iothub/index.ts';
import { upstreamLocal } from '../modules/upstream-local/index.ts';
import { upstreamMqtt } from '../modules/upstream-mqtt/index.ts';
import { runCli } from './cli/cli.ts';
import { flushed, writeText } from './cli/write-text.ts';
import { EXIT_CODES } from './core/errors.ts';
import type { HeadDefinition, ModuleDefinition } from './core/module.ts';

export const MODULES: readonly ModuleDefinition[] = [
  modbus,
  mqtt,
  serial,
  simulator,
  upstreamAmqp,
  upstreamIotHub,
  upstreamLocal,
  upstreamMqtt,
];

/** Protocols of the local hub. */
const HEADS: readonly HeadDefinition[] = [hubAmqp, hubHttps, hubMqtt];

/** `src/main.ts` and `dist/main.mjs` both stand one folder below package.json. */
function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

if (import.meta.main) {
  // A fault of ours: what is stored is safe, and a fresh process is the surest way on (exit code 70, design section 6).
  process.on('uncaughtException', (error) => {
    process.stderr.write(`fieldpost: internal fault: ${error.stack ?? error.message}\n`);
    process.exit(EXIT_CODES.internal);
  });
  // Whoever reads the output may go away (`| head`, a log collector that restarts): never a reason to fail.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  process.exitCode = await runCli(process.argv.slice(2), {
    modules: MODULES,
    heads: HEADS,
    web: { load: async () => (await import('../modules/web/index.ts')).createWebServer },
    version: version(),
    env: process.env,
    out: (text) => writeText(process.stdout, text),
    err: (text) => void process.stderr.write(text),
    flushed: () => flushed(process.stdout, process.stderr),
  });
}
