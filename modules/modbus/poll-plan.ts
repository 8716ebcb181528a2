// Which requests read a set of points: the fewest legal ones, and among those the ones that carry the fewest registers.
//
// A request may not be longer than the limits, cross a gap wider than the hole budget, or contain a hole. All three hold
// for every part of a request when they hold for the whole, so cutting the sorted points into runs finds the optimum.

import { isBitTable, type RegisterTable } from './address.ts';
import { READ_BITS_MAX, READ_REGISTERS_MAX } from './pdu.ts';
import type { Holes } from './holes.ts';

/** What planning needs of a point. */
export interface PlannedPoint {
  readonly table: RegisterTable;
  /** Zero-based protocol address. */
  readonly address: number;
  /** Registers, or bits in the bit tables. */
  readonly quantity: number;
}

export interface PlanLimits {
  readonly maxRegisters: number;
  readonly maxCoils: number;
  readonly maxGapRegisters: number;
  readonly maxGapCoils: number;
  readonly oneRequestPerPoint: boolean;
  readonly coilsFromZero: boolean;
}

export interface PlannedRequest<Point extends PlannedPoint = PlannedPoint> {
  readonly functionCode: 1 | 2 | 3 | 4;
  readonly table: RegisterTable;
  readonly address: number;
  readonly quantity: number;
  /** The points that lie in it whole, by address. */
  readonly points: readonly Point[];
}

/** MODBUS Application Protocol V1.1b3, 6.1 to 6.4. */
const READ_FUNCTIONS = { coil: 1, discrete: 2, holding: 3, input: 4 } as const;

const TABLES: readonly RegisterTable[] = ['coil', 'discrete', 'holding', 'input'];

/**
 * The requests for the points. Points that contain a hole are left out: reading them can only fail.
 * Never splits a point; one that is longer than the limits allow goes alone.
 */
export function planRequests<Point extends PlannedPoint>(
  points: readonly Point[],
  limits: PlanLimits,
  holes: Holes,
): PlannedRequest<Point>[] {
  return TABLES.flatMap((table) => {
    const readable = points.filter((point) => point.table === table && !holes.isIn(table, point));
    return readable.length === 0 ? [] : planTable(table, sortPoints(readable), limits, holes);
  });
}

/** By address; of those that start together the longest first. */
export function sortPoints<Point extends PlannedPoint>(points: readonly Point[]): Point[] {
  return [...points].sort((a, b) => a.address - b.address || b.quantity - a.quantity);
}

/** The request that covers sorted points of one table. */
export function requestFor<Point extends PlannedPoint>(
  table: RegisterTable,
  points: readonly Point[],
  fromZero = false,
): PlannedRequest<Point> {
  const address = fromZero ? 0 : (points[0]?.address ?? 0);
  const end = points.reduce((end, point) => Math.max(end, point.address + point.quantity), 0);
  return { functionCode: READ_FUNCTIONS[table], table, address, quantity: end - address, points };
}

/** Points that lie in the range of the first one. */
interface Span<Point> {
  readonly address: number;
  readonly end: number;
  readonly points: Point[];
}

function planTable<Point extends PlannedPoint>(
  table: RegisterTable,
  sorted: readonly Point[],
  limits: PlanLimits,
  holes: Holes,
): PlannedRequest<Point>[] {
  const isBits = isBitTable(table);
  const fromZero = limits.coilsFromZero && table === 'coil';
  const rules: RunRules = {
    table,
    fromZero,
    most: isBits ? Math.min(limits.maxCoils, READ_BITS_MAX) : Math.min(limits.maxRegisters, READ_REGISTERS_MAX),
    gap: fromZero ? Number.POSITIVE_INFINITY : isBits ? limits.maxGapCoils : limits.maxGapRegisters,
    holes,
  };
  const spans = limits.oneRequestPerPoint ? distinctSpans(sorted) : outermostSpans(sorted);
  const runs = limits.oneRequestPerPoint ? spans.map((span) => [span]) : cutIntoRuns(spans, rules);
  return runs.map((run) =>
    requestFor(
      table,
      run.flatMap((span) => span.points),
      fromZero,
    ),
  );
}

/** A point within another one comes with it. What remains has rising starts and rising ends. */
function outermostSpans<Point extends PlannedPoint>(sorted: readonly Point[]): Span<Point>[] {
  const spans: Span<Point>[] = [];
  for (const point of sorted) {
    const end = point.address + point.quantity;
    const last = spans.at(-1);
    if (last !== undefined && end <= last.end) last.points.push(point);
    else spans.push({ address: point.address, end, points: [point] });
  }
  return spans;
}

/** Points of just the same range, such as the bits of one register, share a request. */
function distinctSpans<Point extends PlannedPoint>(sorted: readonly Point[]): Span<Point>[] {
  const spans: Span<Point>[] = [];
  for (const point of sorted) {
    const end = point.address + point.quantity;
    const last = spans.at(-1);
    if (last !== undefined && last.address === point.address && last.end === end) last.points.push(point);
    else spans.push({ address: point.address, end, points: [point] });
  }
  return spans;
}

interface RunRules {
  readonly table: RegisterTable;
  readonly fromZero: boolean;
  readonly most: number;
  readonly gap: number;
  readonly holes: Holes;
}

/** The best plan of the spans before an index. */
interface Plan {
  readonly requests: number;
  readonly quantity: number;
  /** Where its last run starts. */
  readonly cut: number;
}

function cutIntoRuns<Point>(spans: readonly Span<Point>[], rules: RunRules): Span<Point>[][] {
  const plans: Plan[] = [{ requests: 0, quantity: 0, cut: 0 }];
  for (let end = 1; end <= spans.length; end += 1) plans.push(bestPlan(spans, end, plans, rules));
  const runs: Span<Point>[][] = [];
  for (let end = spans.length; end > 0; end = plans[end]?.cut ?? 0) runs.push(spans.slice(plans[end]?.cut ?? 0, end));
  return runs.reverse();
}

/** Tries every legal last run of the spans before `end`, the shortest first; one span alone is always legal. */
function bestPlan<Point>(spans: readonly Span<Point>[], end: number, plans: readonly Plan[], rules: RunRules): Plan {
  const last = spans[end - 1];
  let best: Plan | undefined;
  for (let cut = end - 1; cut >= 0; cut -= 1) {
    const first = spans[cut];
    const before = plans[cut];
    if (first === undefined || last === undefined || before === undefined) break;
    const address = rules.fromZero ? 0 : first.address;
    const quantity = last.end - address;
    if (cut < end - 1) {
      const next = spans[cut + 1];
      if (next !== undefined && next.address - first.end > rules.gap) break;
      if (quantity > rules.most || rules.holes.isIn(rules.table, { address, quantity })) break;
    }
    const plan = { requests: before.requests + 1, quantity: before.quantity + quantity, cut };
    if (best === undefined || isBetter(plan, best)) best = plan;
  }
  return best ?? { requests: 0, quantity: 0, cut: end - 1 };
}

function isBetter(plan: Plan, than: Plan): boolean {
  return plan.requests < than.requests || (plan.requests === than.requests && plan.quantity < than.quantity);
}
