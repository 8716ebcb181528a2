// `fieldpost buffer …`: on the running gateway, else on its store, which the command then opens itself.

import { createBufferAdmin } from '../admin/buffer-admin.ts';
import { BUFFER_USAGE, runBufferCommand } from '../admin/buffer-commands.ts';
import { connectControl } from '../admin/control-client.ts';
import { isGatewayError } from '../core/errors.ts';
import type { SalvageReport } from '../core/outbox.ts';
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
    const outbox = await openStoppedOutbox({
      ...paths,
      env,
      modules,
      onSalvaged: (report) => err(salvageText(report)),
    });
    try {
      return await runBufferCommand(rest, { out, err, buffer: createBufferAdmin(outbox) });
    } finally {
      await outbox.close();
    }
  },
};

/** Nobody else tells it: a gateway that starts later finds the store sound. */
function salvageText({ reason, copiedTo, messagesKept, messagesLost }: SalvageReport): string {
  return `The outbox was damaged (${reason}) and has been repaired: ${messagesKept} messages kept, ${messagesLost} lost. It stands as it was found in ${copiedTo}; remove that when it is not needed any more.\n`;
}
