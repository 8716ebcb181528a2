// What is known of a twin, and what is to be done about it.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../../src/iothub/twin-record.ts';
import { mergeValue } from '../../../../src/iothub/twin-merge.ts';
import {
  newTwinState,
  partOf,
  renew,
  reportPatch,
  settle,
  takePatch,
  takeTwin,
  withReport,
} from '../../../../src/upstream/twin-state.ts';

const LEAF = { leafId: 'meter-1' };
const START = newTwinState(100);
const twin = (version: number, desired: JsonObject, reported: JsonObject = {}) => ({ version, desired, reported });

describe('what is due', () => {
  it('is at first what differs from what is reported, later what differs from what was desired', () => {
    const first = takeTwin(START, LEAF, twin(3, { relay: true, level: 4 }, { relay: true, level: 3 }));
    expect(first).toMatchObject({ version: 3, due: { 'meter-1': { level: 101 } } });
    expect(takeTwin(first, LEAF, twin(3, { level: 4, relay: true })).due).toEqual(first.due);
    const later = takeTwin(settle(first, 'meter-1', { level: 101 }), LEAF, twin(9, { relay: true, mode: 1 }));
    expect(later).toMatchObject({ version: 9, desired: { relay: true, mode: 1 } });
    expect(Object.keys(later.due['meter-1'] ?? {})).toEqual(['level', 'mode']);
    // The device was made anew at the hub: its versions begin again.
    expect(takeTwin(later, LEAF, twin(1, {})).version).toBe(1);
  });

  it('is what a patch names, though it is the same', () => {
    const state = { ...START, version: 3, desired: { relay: true, level: 4 } };
    expect(takePatch(state, LEAF, { relay: true, level: null }, 4)).toMatchObject({
      version: 4,
      desired: { relay: true },
      due: { 'meter-1': { relay: 101, level: 101 } },
    });
  });

  it.each([
    [{ devices: { a: { x: 1 }, b: null } }, { a: ['x'], b: ['z'] }],
    [{ devices: null }, { a: ['y'], b: ['z'] }],
    [{ devices: 5, other: {} }, {}],
    [{ other: 1 }, {}],
    [{ devices: { a: 7, c: { x: { y: 1 } } } }, { c: ['x'] }],
  ])('is told apart by devices in the gateway’s twin: %j', (patch, due) => {
    const state = { ...START, desired: { devices: { a: { y: 1 }, b: { z: 1 } } } };
    const names = Object.entries(takePatch(state, 'gateway', patch, 1).due).map(([leaf, of]) => [
      leaf,
      Object.keys(of),
    ]);
    expect(Object.fromEntries(names)).toEqual(due);
  });

  it('is over with the round in which it was done, and not with an earlier one', () => {
    const first = takePatch(START, LEAF, { relay: true, level: 1 }, 1);
    const again = takePatch(first, LEAF, { relay: false }, 2);
    expect(settle(again, 'meter-1', first.due['meter-1'] ?? {}).due).toEqual({ 'meter-1': { relay: 102 } });
    expect(settle(again, 'meter-1', { relay: 102, level: 101 }).due).toEqual({});
    expect(renew(again, 'meter-1', ['level']).due).toEqual({ 'meter-1': { relay: 102, level: 103 } });
  });

  it('has room for any name', () => {
    const odd = JSON.parse('{"devices":{"__proto__":{"__proto__":1,"constructor":2}}}') as JsonObject;
    const { due, desired } = takePatch(START, 'gateway', odd, 1);
    expect(JSON.stringify(due)).toBe('{"__proto__":{"__proto__":101,"constructor":101}}');
    expect(JSON.stringify(partOf('gateway', '__proto__', desired))).toBe('{"__proto__":1,"constructor":2}');
    expect(partOf('gateway', 'constructor', desired)).toEqual({});
  });
});

describe('what is reported', () => {
  it('is refused where no twin takes it', () => {
    for (const [name, value] of [
      ['a.b', 1],
      ['a b', 1],
      ['text', 'x'.repeat(4097)],
    ] as const) {
      expect(() => withReport(START, LEAF, 'meter-1', { [name]: value })).toThrow(/twin/);
    }
    let full = START;
    expect(() => {
      for (let name = 0; name < 20; name += 1)
        full = withReport(full, LEAF, 'meter-1', { [`p${name}`]: 'x'.repeat(4000) });
    }).toThrow(/32768/);
    expect(withReport(START, LEAF, 'meter-1', { long: 2 ** 53 - 1 }).reported).toEqual({ long: '9007199254740991' });
    expect(() => withReport(START, 'gateway', 'a.b', { x: 1 })).toThrow(/"a.b"/);
  });

  it('leaves what is not ours, and replaces what is', () => {
    const ours = { relay: { ac: 400, av: 2, ad: 'no' }, gone: null, never: null, same: 1 };
    const theirs = { relay: { ac: 502, value: true }, gone: 1, same: 1, other: { deep: 1 } };
    const patch = reportPatch(LEAF, ours, theirs);
    expect(patch).toEqual({ relay: { ac: 400, av: 2, ad: 'no', value: null }, gone: null });
    expect(mergeValue(theirs, patch)).toEqual({ relay: { ac: 400, av: 2, ad: 'no' }, same: 1, other: { deep: 1 } });
  });

  const json = fc.letrec<{ value: never; object: JsonObject }>((tie) => ({
    value: fc.oneof({ maxDepth: 3 }, fc.integer(), fc.boolean(), fc.string(), tie('object')) as fc.Arbitrary<never>,
    object: fc.dictionary(fc.stringMatching(/^[a-c]$/), tie('value'), { maxKeys: 3 }),
  })).object;

  it('is there once the patch was merged, and then there is nothing more to tell', () => {
    fc.assert(
      fc.property(json, json, (ours, theirs) => {
        const merged = mergeValue(theirs, reportPatch(LEAF, ours, theirs));
        for (const [name, value] of Object.entries(ours)) expect(merged[name]).toEqual(value);
        expect(reportPatch(LEAF, ours, merged)).toEqual({});
      }),
    );
  });
});
