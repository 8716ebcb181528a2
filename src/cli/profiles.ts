// `fieldpost profiles`: the device profiles that a configuration may name.

import { join } from 'node:path';
import { formatFault } from '../config/fault.ts';
import { listProfiles, readProfile } from '../config/profiles.ts';
import { EXIT_CODES } from '../core/errors.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command } from './command.ts';

export const profilesCommand: Command = {
  name: 'profiles',
  usage: 'profiles [--data DIR]',
  summary: 'Lists the device profiles, those of the data directory first, with what each is for.',
  async run(args, { modules, env, out, err }) {
    const { files, rest } = splitFileOptions(args);
    if (rest.length > 0) throw usageError('profiles takes no arguments.');
    const own = join(gatewayFiles(files, env).dataDirectory, 'profiles');
    let faults = 0;
    for (const module of modules) {
      if (module.kind !== 'adapter' || module.profiles === undefined) continue;
      for (const { name, file } of listProfiles(module, own)) {
        const profile = readProfile(module, file);
        for (const fault of profile.faults) err(`${formatFault(fault)}\n`);
        faults += profile.faults.length;
        const title = typeof profile.values['title'] === 'string' ? profile.values['title'] : '';
        await out(`${module.type}  ${name.padEnd(36)}  ${title}${file.startsWith(own) ? ` (${file})` : ''}\n`);
      }
    }
    return faults === 0 ? EXIT_CODES.ok : EXIT_CODES.configuration;
  },
};
