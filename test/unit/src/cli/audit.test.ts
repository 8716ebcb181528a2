import { expect, it } from 'vitest';
import { auditLine } from '../../../../src/cli/audit.ts';
import type { CommandAnswer } from '../../../../src/core/command.ts';

it.each<[CommandAnswer, string]>([
  [{ status: 200, values: { relay: true } }, '200 {"relay":true}'],
  [{ status: 200, values: {}, quality: { relay: 'uncertain:unconfirmed' } }, '200 relay uncertain:unconfirmed'],
  [{ status: 200, payload: { done: 1 } }, '200 {"done":1}'],
  [{ status: 502, code: 'exception_2', reason: 'No.', values: { a: 1 } }, '502 {"a":1} No.'],
  [{ status: 504 }, '504'],
])('tells how a command ended: %j', (answer, end) => {
  const record = { number: 1, time: 'T', clock: 'synced', actor: 'cli:ann', device: 'pump', command: 'write' };
  expect(auditLine({ ...record, request: '{"relay":true}', answer, durationMs: 3 })).toBe(
    `T  cli:ann  pump  write {"relay":true}  ${end}`,
  );
});
