// Random writes of a twin's sections against RFC 7396's own algorithm; the metadata mirror the values, and only what a patch
// names carries its time.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mergeSection, replaceSection } from '../../src/iothub/twin-merge.ts';
import { newTwin, type Json, type JsonObject, type Metadata, type Section } from '../../src/iothub/twin-record.ts';

/** RFC 7396, section 2, over plain Maps. */
function naive(target: Json | undefined, patch: Json): Json {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const before = typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {};
  const members = new Map(Object.entries(before));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, naive(members.get(name), value));
  }
  return Object.fromEntries(members);
}

const names = fc.constantFrom('a', 'b', 'c', '1', 'constructor', '__proto__');
const patches = fc.letrec<{ object: JsonObject; value: Json }>((tie) => ({
  object: fc.array(fc.tuple(names, tie('value')), { maxLength: 4 }).map((members) => Object.fromEntries(members)),
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<Json>(null, true, 1, 'x', [1, { a: 1 }]),
    tie('object'),
  ),
})).object;

/** Every member of the values has metadata, and nothing else has; what was changed later is not older above. */
function checkMirror(value: Json, metadata: Metadata): void {
  const own = Object.keys(metadata).filter((name) => !name.startsWith('$'));
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  expect(own.toSorted()).toEqual(isObject ? Object.keys(value).toSorted() : []);
  for (const name of own) {
    const member = metadata[name] as Metadata;
    expect(member.$lastUpdatedVersion).toBeLessThanOrEqual(metadata.$lastUpdatedVersion ?? 0);
    expect(member.$lastUpdated <= metadata.$lastUpdated).toBe(true);
    checkMirror((value as JsonObject)[name] as Json, member);
  }
}

describe('the merge of twins', () => {
  it('is that of RFC 7396, and metadata follow', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), patches), { maxLength: 12 }), (writes) => {
        let section: Section = newTwin().desired;
        let expected: Json = {};
        writes.forEach(([isWhole, patch], index) => {
          const time = new Date(Date.UTC(2026, 0, 1) + index * 1000).toISOString();
          const before = structuredClone(section);
          expected = naive(isWhole ? {} : expected, patch);
          const next = isWhole ? replaceSection(section, patch, time, true) : mergeSection(section, patch, time, true);
          expect(section).toEqual(before);
          section = next;
          expect(section.version).toBe(index + 2);
          expect(JSON.parse(JSON.stringify(section.value))).toEqual(expected);
          expect(section.metadata).toMatchObject({ $lastUpdated: time, $lastUpdatedVersion: index + 2 });
          checkMirror(section.value, section.metadata);
          for (const [name, value] of Object.entries(section.value)) {
            const isNamed = Object.hasOwn(patch, name);
            const { $lastUpdatedVersion } = section.metadata[name] as Metadata;
            expect($lastUpdatedVersion === index + 2, `${name} ${JSON.stringify(value)}`).toBe(isNamed || isWhole);
          }
          // As it comes back from the store.
          section = JSON.parse(JSON.stringify(section)) as Section;
        });
      }),
      { numRuns: 300 },
    );
  });
});
