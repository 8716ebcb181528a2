// `fieldpost identify DEVICE`: who a device says it is, in so far as its protocol can ask.

import { connectControl } from '../admin/control-client.ts';
import { EXIT_CODES } from '../core/errors.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command } from './command.ts';

export const identifyCommand: Command = {
  name: 'identify',
  usage: 'identify DEVICE [--data DIR]',
  summary: 'Asks a device of the running gateway who it is: vendor, product, revision.',
  async run(args, { env, out, err }) {
    const { files, rest } = splitFileOptions(args);
    const [deviceId, ...more] = rest;
    if (deviceId === undefined || more.length > 0) throw usageError('identify takes one device.');
    const control = await connectControl(gatewayFiles(files, env).controlSocket);
    const found = Object.entries(await control.identify(deviceId));
    if (found.length === 0) {
      err(`Device "${deviceId}" answered, but names no vendor, product or revision.\n`);
    }
    await out(found.map(([name, value]) => `${name}: ${value}\n`).join(''));
    return EXIT_CODES.ok;
  },
};
