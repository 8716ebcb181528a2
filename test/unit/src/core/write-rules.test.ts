import { expect, it } from 'vitest';
import { z } from 'zod';
import { writeFields, writeRulesOf } from '../../../../src/core/write-rules.ts';

const schema = z.strictObject(writeFields);
/** Beyond 2^53: as numbers, these three are two. */
const [LESS, MIDDLE, MORE] = ['9007199254740992', '9007199254740993', '9007199254740994'] as const;

it('takes limits beyond 2^53-1 as they are written', () => {
  const write = schema.parse({ write: { min: LESS, max: MIDDLE, allowed: [MIDDLE, 1.5, true] } });
  expect(writeRulesOf(write)).toMatchObject({ min: BigInt(LESS), max: BigInt(MIDDLE), allowed: [MIDDLE, 1.5, true] });
  expect(writeRulesOf(schema.parse({ write: { min: -0.5, max: 1e30 } }))).toMatchObject({
    min: -0.5,
    max: BigInt(1e30),
  });
});

it.each([
  [{ min: Number(MIDDLE) }, 'must stand in quotes'],
  [{ max: -Number(MIDDLE) }, 'must stand in quotes'],
  [{ allowed: [Number(MIDDLE)] }, 'must stand in quotes'],
  [{ min: 'high' }, 'must be a number'],
  [{ min: '1.5' }, 'must be a number'],
  [{ min: MORE, max: MIDDLE }, '`min` is above `max`'],
  [{ min: MIDDLE, max: 5 }, '`min` is above `max`'],
])('refuses %o', (write, message) => {
  expect(JSON.stringify(schema.safeParse({ write }).error?.issues)).toContain(message);
});
