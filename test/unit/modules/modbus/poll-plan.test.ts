import { describe, expect, it } from 'vitest';
import { bisect, splitRequest } from '../../../../modules/modbus/bisect.ts';
import { Holes } from '../../../../modules/modbus/holes.ts';
import {
  type PlanLimits,
  type PlannedPoint,
  type PlannedRequest,
  planRequests,
} from '../../../../modules/modbus/poll-plan.ts';

const LIMITS: PlanLimits = {
  maxRegisters: 125,
  maxCoils: 2000,
  maxGapRegisters: 16,
  maxGapCoils: 256,
  oneRequestPerPoint: false,
  coilsFromZero: false,
};

function at(address: number, quantity = 1, table: PlannedPoint['table'] = 'holding'): PlannedPoint {
  return { table, address, quantity };
}

/** `function address+quantity`, in order. */
function plan(points: readonly PlannedPoint[], limits: Partial<PlanLimits> = {}, holes = new Holes()): string[] {
  return planRequests(points, { ...LIMITS, ...limits }, holes).map(text);
}

function text({ functionCode, address, quantity }: PlannedRequest): string {
  return `${functionCode} ${address}+${quantity}`;
}

describe('planRequests', () => {
  it('has nothing to ask for no points', () => {
    expect(plan([])).toEqual([]);
  });

  it('joins neighbours, in any order, a table at a time', () => {
    expect(
      plan([at(4, 2), at(0, 4), at(0, 1, 'coil'), at(1, 1, 'coil'), at(7, 1, 'discrete'), at(9, 2, 'input')]),
    ).toEqual(['1 0+2', '2 7+1', '3 0+6', '4 9+2']);
  });

  it('crosses a gap as wide as the budget, and none wider', () => {
    expect(plan([at(0), at(17)])).toEqual(['3 0+18']);
    expect(plan([at(0), at(18)])).toEqual(['3 0+1', '3 18+1']);
    expect(plan([at(0), at(1), at(3)], { maxGapRegisters: 0 })).toEqual(['3 0+2', '3 3+1']);
    expect(plan([at(0, 1, 'coil'), at(257, 1, 'coil')])).toEqual(['1 0+258']);
    expect(plan([at(0, 1, 'coil'), at(258, 1, 'coil')])).toEqual(['1 0+1', '1 258+1']);
  });

  it('fills a block to the limit and not beyond', () => {
    const floats = Array.from({ length: 63 }, (_, index) => at(index * 2, 2));
    expect(plan(floats.slice(0, 62))).toEqual(['3 0+124']);
    expect(plan(floats)).toHaveLength(2);
    expect(plan([at(0, 125)])).toEqual(['3 0+125']);
    expect(plan([at(0, 124), at(124)])).toEqual(['3 0+125']);
    expect(plan([at(0, 125), at(125)])).toEqual(['3 0+125', '3 125+1']);
    expect(plan([at(0, 1, 'coil'), at(1999, 1, 'coil')], { maxGapCoils: 2000 })).toEqual(['1 0+2000']);
    expect(plan([at(0, 1, 'coil'), at(2000, 1, 'coil')], { maxGapCoils: 2000 })).toEqual(['1 0+1', '1 2000+1']);
  });

  it('never exceeds the protocol, whatever the limits say', () => {
    expect(plan([at(0), at(125)], { maxRegisters: 999, maxGapRegisters: 999 })).toEqual(['3 0+1', '3 125+1']);
  });

  it('never splits a point', () => {
    expect(plan([at(0, 4), at(4, 4), at(8, 4)], { maxRegisters: 10 })).toHaveLength(2);
    expect(plan([at(0, 4)], { maxRegisters: 2 })).toEqual(['3 0+4']);
  });

  it('cuts where it saves the most registers', () => {
    // Two requests either way; the cut after the first point leaves the gap of 10 unread.
    expect(plan([at(0, 2), at(12, 2), at(14, 2)], { maxRegisters: 14 })).toEqual(['3 0+2', '3 12+4']);
  });

  it('reads points that overlap or repeat at once', () => {
    expect(plan([at(10, 4), at(11), at(12, 2), at(10), at(13, 2)])).toEqual(['3 10+5']);
  });

  it('reaches the last address', () => {
    expect(plan([at(65_535), at(65_534)])).toEqual(['3 65534+2']);
  });

  it('asks for each point alone where the device wants it', () => {
    expect(plan([at(0), at(0), at(1), at(0, 2)], { oneRequestPerPoint: true })).toEqual(['3 0+2', '3 0+1', '3 1+1']);
  });

  it('reads coils from zero where the device wants it', () => {
    expect(plan([at(5, 1, 'coil'), at(900, 1, 'coil'), at(5, 1, 'discrete')], { coilsFromZero: true })).toEqual([
      '1 0+901',
      '2 5+1',
    ]);
  });

  it('goes round holes and leaves out the points in them', () => {
    const holes = new Holes();
    holes.add('holding', { address: 3, quantity: 2 });
    expect(plan([at(0, 3), at(5, 2)], {}, holes)).toEqual(['3 0+3', '3 5+2']);
    expect(plan([at(0, 4), at(4, 2)], {}, holes)).toEqual(['3 0+4', '3 4+2']);
    expect(plan([at(2, 3), at(6)], {}, holes)).toEqual(['3 6+1']);
    expect(plan([at(0, 3, 'input'), at(5, 2, 'input')], {}, holes)).toEqual(['4 0+7']);
  });
});

describe('Holes', () => {
  it('keeps only the narrowest', () => {
    const holes = new Holes();
    holes.add('input', { address: 0, quantity: 10 });
    holes.add('input', { address: 4, quantity: 2 });
    holes.add('input', { address: 3, quantity: 5 });
    expect(holes.size).toBe(1);
    expect(holes.isIn('input', { address: 4, quantity: 2 })).toBe(true);
    expect(holes.isIn('input', { address: 5, quantity: 9 })).toBe(false);
    holes.clear();
    expect(holes.size).toBe(0);
    expect(holes.isIn('input', { address: 0, quantity: 125 })).toBe(false);
  });
});

describe('bisect', () => {
  /** A device where some registers cannot be read. */
  async function search(points: readonly PlannedPoint[], refuses: (request: PlannedRequest) => boolean) {
    const holes = new Holes();
    const asked: string[] = [];
    const answered = new Set<PlannedPoint>();
    const [request] = planRequests(points, LIMITS, holes);
    if (request === undefined) throw new Error('no request');
    await bisect(request, holes, async (part) => {
      asked.push(text(part));
      if (refuses(part)) return 'refused';
      for (const point of part.points) answered.add(point);
      return 'answered';
    });
    return { holes, asked, answered };
  }

  function touches(...bad: number[]): (request: PlannedRequest) => boolean {
    return ({ address, quantity }) => bad.some((register) => register >= address && register < address + quantity);
  }

  it('finds the one bad point among many', async () => {
    const points = Array.from({ length: 32 }, (_, index) => at(index));
    const { holes, asked, answered } = await search(points, touches(13));
    expect(answered.size).toBe(31);
    expect(asked).toHaveLength(10);
    expect(plan(points, {}, holes)).toEqual(['3 0+13', '3 14+18']);
  });

  it('finds a hole between points', async () => {
    const points = [at(0, 2), at(2, 2), at(8, 2), at(10, 2)];
    const { holes, answered } = await search(points, touches(5));
    expect(answered.size).toBe(4);
    expect(plan(points, {}, holes)).toEqual(['3 0+4', '3 8+4']);
  });

  it('learns what a device takes that refuses long blocks', async () => {
    const points = Array.from({ length: 100 }, (_, index) => at(index));
    const { holes, answered } = await search(points, ({ quantity }) => quantity > 60);
    expect(answered.size).toBe(100);
    expect(plan(points, {}, holes)).toEqual(['3 0+50', '3 50+50']);
  });

  it('keeps points that share a register with an unreadable one', async () => {
    const points = [at(0, 2), at(0), at(1)];
    const { holes, answered } = await search(points, ({ quantity }) => quantity === 2);
    expect([...answered]).toEqual([points[1], points[2]]);
    expect(plan(points, {}, holes)).toEqual(['3 0+1', '3 1+1']);
  });

  it('ends with what the question throws', async () => {
    const [request] = planRequests([at(0), at(1)], LIMITS, new Holes());
    const holes = new Holes();
    await expect(
      bisect(request!, holes, async () => {
        throw new Error('no answer');
      }),
    ).rejects.toThrow('no answer');
    expect(holes.size).toBe(0);
  });

  it('cannot split the bits of one register', () => {
    const [request] = planRequests([at(3), at(3), at(3)], LIMITS, new Holes());
    expect(splitRequest(request!)).toBeUndefined();
  });
});
