// `fieldpost buffer …`: on the running gateway, else on its store, which the command then opens itself.

import { createBufferAdmin } from '../admin/buffer-admin.ts';
import { BUFFER_USAGE, runBufferCommand } from '../admin/buffer-commands.ts';
import { connectControl } from '../admin/control-client.ts';
import { isGatewayError } from '../core/errors.ts';
import { openStoppedOutbox } from '../gateway/stopped-outbox.ts';
import { gatewayFiles, splitFileOptions, type Command } from './command.ts';

export const bufferCommand: Command = {
  name: 'buffer',
  usage: 'buffer stats | list | export | requeue | purge [--data DIR]',
  summary: 'Shows, exports and mends what waits in the outbox and the quarantine; `buffer --help` lists all options.',
  help: BUFFER_USAGE,
  async run(args, { env, out, err, modules }) {
    const { files, rest } = splitFileOptions(args);
    const paths = gatewayFiles(files, env);
    try {
      const { buffer } = await connectControl(paths.controlSocket);
      return await runBufferCommand(rest, { out, err, buffer });
    } catch (error) {
      if (!isGatewayError(error, 'GW_NOT_RUNNING')) throw error;
    }
    const outbox = await openStoppedOutbox({ ...paths, env, modules });
    try {
      return await runBufferCommand(rest, { out, err, buffer: createBufferAdmin(outbox) });
    } finally {
      await outbox.close();
    }
  },
};
