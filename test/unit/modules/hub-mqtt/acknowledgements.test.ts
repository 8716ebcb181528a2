import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Acknowledgements, type Place } from '../../../../modules/hub-mqtt/acknowledgements.ts';

describe('acknowledgements', () => {
  it('leave in the order of their messages, as soon as all before them are done', () => {
    const order = fc.array(fc.record({ size: fc.integer({ min: 1, max: 4 }), split: fc.boolean(), key: fc.nat() }), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(order, (steps) => {
        const sent: number[] = [];
        const all = new Acknowledgements((ids) => sent.push(...ids));
        let id = 0;
        const places: { place: Place; key: number; last: number }[] = [];
        for (const { size, split, key } of steps) {
          // Every third is of QoS 0.
          const ids = Array.from({ length: size }, () => ((id += 1) % 3 === 0 ? 0 : id));
          const place = all.begin(ids, 10);
          if (!split) places.push({ place, key, last: id });
          else {
            const first = id - size + 1;
            for (const [index, part] of all.split(place).entries()) {
              places.push({ place: part, key: key + index, last: first + index });
            }
          }
        }
        const isDone = new Set<Place>();
        for (const { place } of places.toSorted((a, b) => a.key - b.key)) {
          all.done(place);
          isDone.add(place);
          const waiting = places.find((one) => !isDone.has(one.place));
          const upTo = waiting === undefined ? id : (places[places.indexOf(waiting) - 1]?.last ?? 0);
          expect(sent).toEqual(Array.from({ length: upTo }, (_, n) => n + 1).filter((one) => one % 3 !== 0));
        }
        expect(all.bytes).toBe(0);
      }),
    );
  });
});
