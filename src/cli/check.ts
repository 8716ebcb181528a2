// `fieldpost check FILE` and `fieldpost schema`.

import { readConfigFile } from '../config/config-file.ts';
import { configJsonSchema } from '../config/json-schema.ts';
import { formatFault } from '../config/fault.ts';
import { loadConfigText } from '../config/load.ts';
import { ModuleCatalogue } from '../config/schema.ts';
import { counted } from '../core/counted.ts';
import { EXIT_CODES } from '../core/errors.ts';
import { checkCondition } from '../pipeline/condition.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command } from './command.ts';

export const checkCommand: Command = {
  name: 'check',
  usage: 'check FILE [--data DIR]',
  summary: 'Checks a configuration and prints every fault as file:line: path: what is wrong, what is allowed.',
  async run(args, { modules, out, err, env }) {
    const { files, rest: operands } = splitFileOptions(args);
    const [file, ...rest] = operands;
    if (file === undefined || rest.length > 0) throw usageError('check takes one file.');
    const result = loadConfigText(readConfigFile(file), {
      catalogue: new ModuleCatalogue(modules),
      file,
      checkCondition,
      env,
      dataDirectory: gatewayFiles(files, env).dataDirectory,
    });
    if (!result.ok) {
      for (const fault of result.faults) err(`${formatFault(fault)}\n`);
      return EXIT_CODES.configuration;
    }
    for (const warning of result.loaded.warnings) err(`warning: ${warning}\n`);
    const { adapters, endpoints, routes, upstream } = result.loaded.config;
    const parts = [
      counted(adapters.length, 'adapter'),
      upstream === undefined ? 'no upstream' : `upstream ${upstream.type}`,
      counted(endpoints.length, 'endpoint'),
      counted(routes.length, 'route'),
    ];
    await out(`${file}: no faults (${parts.join(', ')})\n`);
    return EXIT_CODES.ok;
  },
};

export const schemaCommand: Command = {
  name: 'schema',
  usage: 'schema',
  summary: 'Prints the JSON Schema of the configuration, for editors.',
  async run(args, { modules, out }) {
    if (args.length > 0) throw usageError('schema takes no arguments.');
    await out(`${JSON.stringify(configJsonSchema(new ModuleCatalogue(modules)), undefined, 2)}\n`);
    return EXIT_CODES.ok;
  },
};
