// `fieldpost audit`: what devices were told to do, by whom, and how it ended.

import { parseArgs } from 'node:util';
import { connectControl } from '../admin/control-client.ts';
import type { AuditRecord } from '../core/command.ts';
import { EXIT_CODES } from '../core/errors.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command } from './command.ts';

const LINES = 50;
const LINES_MAX = 1000;

export const auditCommand: Command = {
  name: 'audit',
  usage: 'audit [--limit N] [--json] [--data DIR]',
  summary: 'Lists what devices of the running gateway were told to do, by whom, and how it ended, the newest first.',
  async run(args, { env, out }) {
    const { files, rest } = splitFileOptions(args);
    const options = { limit: { type: 'string' }, json: { type: 'boolean', default: false } } as const;
    const { values } = parseArgs({ args: [...rest], options });
    const limit = values.limit === undefined ? LINES : Number(values.limit);
    if (!Number.isInteger(limit) || limit < 1 || limit > LINES_MAX) {
      throw usageError(`--limit takes a number from 1 to ${LINES_MAX}.`);
    }
    const control = await connectControl(gatewayFiles(files, env).controlSocket);
    const records = await control.audit({ limit });
    const lines = records.map((record) => (values.json ? JSON.stringify(record) : auditLine(record)));
    await out(lines.map((line) => `${line}\n`).join(''));
    return EXIT_CODES.ok;
  },
};

/** When, who, which device, what, how it ended: with what the device holds now, and what of it nothing confirms. */
export function auditLine({ time, actor, device, command, request, answer }: AuditRecord): string {
  const { status, values = {}, quality = {}, payload, reason } = answer;
  const end = [
    String(status),
    ...(Object.keys(values).length === 0 ? [] : [JSON.stringify(values)]),
    ...Object.entries(quality).map(([point, text]) => `${point} ${text}`),
    ...(payload === undefined ? [] : [JSON.stringify(payload)]),
    ...(reason === undefined ? [] : [reason]),
  ];
  return `${time}  ${actor}  ${device}  ${command} ${request}  ${end.join(' ')}`;
}
