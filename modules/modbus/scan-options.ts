// What `fieldpost scan modbus` is told: texts as the command line gives them, or their own types from a program.

import { z } from 'zod';
import { ADDRESS_MAX, type RegisterTable } from './address.ts';

const TABLES = ['holding', 'input', 'coil', 'discrete'] as const satisfies readonly RegisterTable[];
const UNIT_MAX = 255;

/** `1-10,20` as numbers in order, each once; undefined when it is not a list of ranges within 0 to `max`. */
function parseRanges(text: string, max: number): number[] | undefined {
  const numbers = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*$/.exec(part);
    if (match === null) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first > last || last > max) return undefined;
    for (let number = first; number <= last; number += 1) numbers.add(number);
  }
  return [...numbers];
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

const integer = (min: number, max: number) =>
  z
    .union(
      [
        z.int(),
        z
          .string()
          .regex(/^\d{1,7}$/)
          .transform(Number),
      ],
      { error: 'must be a whole number' },
    )
    .pipe(
      z
        .int()
        .min(min, { error: `must be ${min} to ${max}` })
        .max(max, { error: `must be ${min} to ${max}` }),
    );

const ranges = (max: number) =>
  z.string().transform((text, context) => {
    const numbers = parseRanges(text, max);
    if (numbers !== undefined) return numbers;
    context.addIssue({ code: 'custom', message: `must be numbers and ranges of 0 to ${max}, such as 1-10,20` });
    return z.NEVER;
  });

const list = <Word extends string>(allowed: readonly Word[]) =>
  z.string().transform((text, context) => {
    const chosen = words(text);
    const known = chosen.filter((word): word is Word => (allowed as readonly string[]).includes(word));
    if (chosen.length > 0 && known.length === chosen.length) return known;
    context.addIssue({ code: 'custom', message: `must be some of ${allowed.join(',')}` });
    return z.NEVER;
  });

const bauds = z.string().transform((text, context) => {
  const numbers = words(text).map(Number);
  const isSound =
    numbers.length > 0 && numbers.every((number) => Number.isInteger(number) && number >= 50 && number <= 4_000_000);
  if (isSound) return [...new Set(numbers)];
  context.addIssue({ code: 'custom', message: 'must be baud rates, such as 9600,19200' });
  return z.NEVER;
});

export const scanOptions = z
  .strictObject({
    host: z.string().min(1).max(253).optional().meta({ description: 'TCP server to search behind.' }),
    port: integer(1, 65_535).default(502).meta({ description: 'Its port; default 502.' }),
    serial: z
      .string()
      .transform(words)
      .optional()
      .meta({ description: 'Serial ports to search, such as /dev/ttyUSB0,/dev/ttyUSB1.' }),
    framing: z
      .enum(['tcp', 'rtu_over_tcp', 'rtu', 'ascii'], { error: 'must be tcp, rtu_over_tcp, rtu or ascii' })
      .optional()
      .meta({ description: 'tcp (default with a host), rtu_over_tcp, rtu (default with serial ports) or ascii.' }),
    baud_rates: bauds.prefault('9600,19200').meta({ description: 'Of serial ports; default 9600,19200.' }),
    parities: list(['none', 'even', 'odd'])
      .prefault('none,even')
      .meta({ description: 'Of serial ports; default none,even.' }),
    unit_ids: ranges(UNIT_MAX).prefault('1-247').meta({ description: 'Unit ids to ask; default 1-247.' }),
    timeout_ms: integer(10, 10_000).default(300).meta({ description: 'Longest wait for an answer; default 300.' }),
    tables: list(TABLES)
      .prefault('holding,input,coil,discrete')
      .meta({ description: 'Tables whose readable ranges are looked for; default all four.' }),
    addresses: ranges(ADDRESS_MAX)
      .prefault('0-999')
      .meta({ description: 'Zero-based addresses that are looked at; default 0-999.' }),
    skip_ranges: z
      .boolean()
      .default(false)
      .meta({ description: 'Looks for devices only, not for their readable ranges.' }),
  })
  .refine(({ host, serial }) => (host === undefined) !== (serial === undefined), {
    error: 'name either host or serial',
  })
  .refine(
    ({ host, framing }) =>
      framing === undefined || (host !== undefined) === (framing === 'tcp' || framing === 'rtu_over_tcp'),
    {
      error: 'framing does not fit: tcp and rtu_over_tcp go with host, rtu and ascii with serial',
    },
  );

export type ScanOptions = z.output<typeof scanOptions>;
