// Records of lists: none passes for another's or for an earlier one, and there are no more than allowed.

import { expect, it } from 'vitest';
import { ListedRecords } from '../../../../src/hub/listed-records.ts';

const bytes = (record: object): Uint8Array => new Uint8Array(Buffer.from(JSON.stringify(record)));

it('gives the same object while the text is the same', () => {
  const listed = new ListedRecords<{ n: number }>(2);
  const first = listed.parse('d/a', bytes({ n: 1 }));
  expect(first).toEqual({ n: 1 });
  expect(listed.parse('d/a', bytes({ n: 1 }))).toBe(first);
  expect(listed.parse('d/b', bytes({ n: 1 }))).not.toBe(first);
  expect(listed.parse('d/a', bytes({ n: 2 }))).toEqual({ n: 2 });
  expect(listed.parse('d/a', bytes({ n: 1 }))).not.toBe(first);
});

it('keeps as many as allowed: the oldest goes', () => {
  const listed = new ListedRecords<object>(2);
  const keys = ['d/a', 'd/b', 'd/c'];
  const [a, b, c] = keys.map((key) => listed.parse(key, bytes({ key })));
  expect(listed.parse('d/c', bytes({ key: 'd/c' }))).toBe(c);
  expect(listed.parse('d/b', bytes({ key: 'd/b' }))).toBe(b);
  expect(listed.parse('d/a', bytes({ key: 'd/a' }))).not.toBe(a);
});
