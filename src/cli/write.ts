// `fieldpost write …`: the command of admin/, on the running gateway.

import { userInfo } from 'node:os';
import { connectControl } from '../admin/control-client.ts';
import { WRITE_USAGE, runWriteCommand } from '../admin/write-command.ts';
import { gatewayFiles, splitFileOptions, type Command } from './command.ts';

export const writeCommand: Command = {
  name: 'write',
  usage: 'write DEVICE POINT VALUE [--data DIR]',
  summary: 'Writes a value to a point of the running gateway and prints what the device reads back.',
  help: WRITE_USAGE,
  async run(args, { env, out }) {
    const { files, rest } = splitFileOptions(args);
    return runWriteCommand(rest, {
      out,
      actor: `cli:${userInfo().username}`,
      write: async (request, actor) => {
        const control = await connectControl(gatewayFiles(files, env).controlSocket);
        return control.write(request, actor);
      },
    });
  },
};
