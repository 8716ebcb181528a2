// Lists of identities: the JSON of what is shown now, however much of it was made for an earlier list.

import { expect, it } from 'vitest';
import { createListJson } from '../../../../modules/hub-https/identity-json.ts';

it('is the JSON of all, each made once', () => {
  const made: string[] = [];
  const list = createListJson(({ id }: { id: string }) => {
    made.push(id);
    return { id, kind: 'device' };
  });
  const [a, b, c] = ['a', 'bü', 'c'].map((id) => ({ id }));
  if (a === undefined || b === undefined || c === undefined) throw new Error('three');
  const shown = (...identities: { id: string }[]): unknown => JSON.parse(list(identities).toString());
  expect(list([]).toString()).toBe('[]');
  expect(list([a]).toString()).toBe('[{"id":"a","kind":"device"}]');
  expect(shown(a, b)).toEqual([a, b].map(({ id }) => ({ id, kind: 'device' })));
  expect(shown(c, b, a)).toEqual([c, b, a].map(({ id }) => ({ id, kind: 'device' })));
  expect(made).toEqual(['a', 'bü', 'c']);
  expect(shown({ id: 'a' })).toEqual([{ id: 'a', kind: 'device' }]);
  expect(made).toEqual(['a', 'bü', 'c', 'a']);
});
