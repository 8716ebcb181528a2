// What `fieldpost scan serial` is told: texts as the command line gives them, or their own types from a program.

import { z } from 'zod';
import { LINE_FORMAT } from './line-format.ts';

const COMMON_BAUD_RATES = [9600, 19_200, 115_200, 4800, 38_400, 57_600, 2400, 1200] as const;

const baudRates = z
  .union([
    z.array(z.int()),
    z.string().regex(/^\d{2,7}(?:,\d{2,7})*$/, { error: 'must be numbers such as 9600,19200' }),
  ])
  .transform((value) => (typeof value === 'string' ? value.split(',').map(Number) : value))
  .pipe(z.array(z.int().min(50).max(4_000_000)).min(1).max(32));

const milliseconds = z
  .union([
    z.int(),
    z
      .string()
      .regex(/^\d{1,6}$/, { error: 'must be a whole number' })
      .transform(Number),
  ])
  .pipe(z.int().min(50).max(60_000));

const formats = z.union([z.array(z.string()), z.string().transform((value) => value.split(','))]).pipe(
  z
    .array(z.string().regex(LINE_FORMAT, { error: 'must be formats such as 8N1,7E1' }))
    .min(1)
    .max(12),
);

export const scanOptions = z.strictObject({
  path: z.string().min(1).optional().meta({ description: 'One port. Default: all that have a device behind them.' }),
  baud_rates: baudRates
    .default([...COMMON_BAUD_RATES])
    .meta({ description: `Baud rates to try. Default: ${COMMON_BAUD_RATES.join(',')}.` }),
  formats: formats.default(['8N1']).meta({
    description:
      'Data bits, parity, stop bits to try, such as 8N1,7E1,7O1,8E1,8N2. Default: 8N1, which tells 7 bits of text too.',
  }),
  listen_ms: milliseconds.default(1500).meta({ description: 'How long to listen at each of them. Default: 1500.' }),
  send: z.string().max(256).optional().meta({
    description:
      'Text to send first at each baud rate, with \\r, \\n, \\t, \\0 and \\xHH for bytes, \\\\ for a backslash; without it nothing is ever sent.',
  }),
  list_only: z.boolean().default(false).meta({ description: 'Opens no port: shows only what is plugged in.' }),
});

export type ScanOptions = z.output<typeof scanOptions>;
