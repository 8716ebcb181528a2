import { createRequire } from 'node:module';
import { generate } from 'mqtt-packet';
import { expect, it } from 'vitest';
import { withoutNumberTable } from '../../../../src/wire/mqtt-numbers.ts';

const numbers = createRequire(import.meta.url)('mqtt-packet/numbers.js') as { cache: Readonly<Record<string, Buffer>> };

it('writes packets without a table of all numbers', async () => {
  await withoutNumberTable();
  await withoutNumberTable();
  expect(generate({ cmd: 'puback', messageId: 0x1234 })).toEqual(Buffer.from([0x40, 0x02, 0x12, 0x34]));
  expect(Object.keys(numbers.cache)).toHaveLength(0);
});
