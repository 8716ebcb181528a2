// `fieldpost hub …`: the commands of admin/, on the running gateway; and a hub that keeps nothing.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { connectControl } from '../admin/control-client.ts';
import { HUB_USAGE, runHubCommand } from '../admin/hub-commands.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command, type CommandContext } from './command.ts';
import { runCommand } from './run.ts';

export const hubCommand: Command = {
  name: 'hub',
  usage: 'hub connection-string | identity | twin | invoke-method | send-c2d | monitor-events | run [--data DIR]',
  summary: 'Works with the local hub: its identities, twins, commands and events; `hub --help` lists all options.',
  help: HUB_USAGE,
  async run(args, context) {
    const { env, out, err } = context;
    const { files, rest } = splitFileOptions(args);
    if (rest[0] === 'run') return runInMemory(rest.slice(1), context);
    const interrupted = new AbortController();
    const stop = (): void => interrupted.abort();
    process.once('SIGINT', stop).once('SIGTERM', stop);
    try {
      const { hub } = await connectControl(gatewayFiles(files, env).controlSocket);
      return await runHubCommand(rest, { hub, out, err, signal: interrupted.signal });
    } finally {
      process.off('SIGINT', stop).off('SIGTERM', stop);
    }
  },
};

/** Where a file system in memory is. */
const MEMORY = '/dev/shm';

async function runInMemory(args: readonly string[], context: CommandContext): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      'in-memory': { type: 'boolean', default: false },
      address: { type: 'string', default: '127.0.0.1' },
      'host-name': { type: 'string', default: 'localhost' },
    },
  });
  if (!values['in-memory'])
    throw usageError(`hub run takes --in-memory; a hub that keeps its data is \`fieldpost run\`.\n${HUB_USAGE}`);
  const directory = newDirectory();
  try {
    const config = join(directory, 'fieldpost.yaml');
    const hub = { enabled: true, address: values.address, host_name: values['host-name'] };
    writeFileSync(config, stringify({ web: { enabled: false }, outbox: { min_free_bytes: 0 }, hub }));
    return await runCommand.run(['--data', directory, '--config', config], context);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** In memory where the system has a place for it, else among its temporary files. */
function newDirectory(): string {
  try {
    return mkdtempSync(join(MEMORY, 'fieldpost-hub-'));
  } catch {
    return mkdtempSync(join(tmpdir(), 'fieldpost-hub-'));
  }
}
