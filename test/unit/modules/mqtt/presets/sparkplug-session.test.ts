// Births and what they are good for: https://sparkplug.eclipse.org/specification/version/3.0/, 6.4.

import { describe, expect, it } from 'vitest';
import { createSparkplug } from '../../../../../modules/mqtt/presets/sparkplug.ts';
import { get } from 'sparkplug-payload';

type Payload = Parameters<NonNullable<ReturnType<typeof get>>['encodePayload']>[0];
type Metric = NonNullable<Payload['metrics']>[number];

const LEVEL: Metric = { name: 'Level', alias: 1, type: 'Double', value: 5 };

/** A dialect with a clock that is set by hand; `hear` says what a node says. */
function listener() {
  let nowMs = 0;
  const dialect = createSparkplug({ wallMs: () => 1_800_000_000_000 + nowMs, monotonicMs: () => nowMs });
  return {
    dialect,
    pass: (ms: number) => void (nowMs += ms),
    hear: (type: string, path: string, seq: number, metrics: readonly Metric[]) => {
      const payload = get('spBv1.0')?.encodePayload({ seq, metrics: [...metrics] }) ?? new Uint8Array();
      const { told = [], ask = [] } =
        dialect.understand({ topic: `spBv1.0/plant/${type}/${path}`, payload, replayed: false }) ?? {};
      return { told, asks: ask.map(({ topic }) => topic) };
    },
  };
}

/** As the library takes it, which wants a name. */
function byAlias(alias: number, value: number): Metric {
  return { alias, type: 'Double', value } as unknown as Metric;
}

const REBIRTH = ['spBv1.0/plant/NCMD/edge'];

describe('the birth of a node', () => {
  it('ends those of its devices, which are back with their own', () => {
    const { hear, dialect } = listener();
    hear('NBIRTH', 'edge', 0, []);
    hear('DBIRTH', 'edge/pump', 1, [LEVEL]);
    hear('DBIRTH', 'edge/tank', 2, [LEVEL]);
    expect(dialect.planWrite('plant.edge.tank', 'Level', 1)).toBeDefined();
    expect(hear('NBIRTH', 'edge', 0, []).told).toMatchObject([
      { device: 'plant.edge', online: true },
      { device: 'plant.edge.pump', online: false },
      { device: 'plant.edge.tank', online: false },
    ]);
    expect(hear('DBIRTH', 'edge/pump', 1, [LEVEL]).told).toMatchObject([{ device: 'plant.edge.pump', online: true }]);
    // The next one has nothing to end of a device that was never back.
    expect(hear('NBIRTH', 'edge', 0, []).told.map(({ device }) => device)).toEqual(['plant.edge', 'plant.edge.pump']);
  });

  it('shows as writable what can be written', () => {
    const columns = { num_of_columns: 0, columns: [], types: [], rows: [] };
    const table = { name: 'Table', type: 'DataSet', value: columns } as unknown as Metric;
    const [told] = listener().hear('NBIRTH', 'edge', 0, [LEVEL, table]).told;
    expect(told).toMatchObject({ fault: 'unsupported_type', points: [{ writable: true }, { writable: false }] });
    expect(told?.readings?.map(({ point }) => point)).toEqual(['Level']);
  });
});

describe('data that no birth explains', () => {
  const born = () => {
    const all = listener();
    all.hear('NBIRTH', 'edge', 0, [LEVEL]);
    return all;
  };

  it('is counted and asks for a rebirth where an alias is unknown, and what is known of it stays', () => {
    const { told, asks } = born().hear('NDATA', 'edge', 1, [byAlias(99, 1), byAlias(1, 6)]);
    expect(told).toMatchObject([{ online: true, fault: 'unknown_alias', readings: [{ point: 'Level', value: 6 }] }]);
    expect(asks).toEqual(REBIRTH);
  });

  it('asks for none where the birth told more than is kept', () => {
    const { hear } = listener();
    hear('NBIRTH', 'edge', 0, [LEVEL, { name: 'x'.repeat(1000), alias: 2, type: 'Double', value: 1 }]);
    expect(hear('NDATA', 'edge', 1, [byAlias(2, 1)])).toMatchObject({ told: [{ fault: 'unknown_alias' }], asks: [] });
  });

  it.each([
    ['an alias that is unknown', 'NDATA', 1, byAlias(99, 1)],
    ['a hole in the numbering', 'NDATA', 7, byAlias(1, 1)],
    ['no birth', 'DDATA', 1, byAlias(1, 1)],
  ])('asks again after %s until a birth comes, but not with each message', (_what, type, seq, metric) => {
    const { hear, pass } = born();
    const path = type === 'DDATA' ? 'edge/pump' : 'edge';
    expect(hear(type, path, seq, [metric]).asks).toEqual(REBIRTH);
    expect(hear(type, path, seq + 1, [metric]).asks).toEqual([]);
    pass(10_000);
    expect(hear('NDATA', 'edge', seq + 2, [byAlias(1, 2)]).asks).toEqual(REBIRTH);
    pass(10_000);
    hear('NBIRTH', 'edge', 0, [LEVEL]);
    expect(hear('NDATA', 'edge', 1, [byAlias(1, 2)]).asks).toEqual([]);
  });

  it('wears out no node whose births leave out what its data has', () => {
    const { hear, pass } = born();
    let asked = 0;
    for (let second = 0; second < 60; second += 1) {
      const { asks } = hear('NDATA', 'edge', 1, [byAlias(99, 1)]);
      asked += asks.length;
      if (asks.length > 0) hear('NBIRTH', 'edge', 0, [LEVEL]);
      pass(1000);
    }
    expect(asked).toBe(6);
  });
});
