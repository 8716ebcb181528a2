// Splitting a block that a device answers with exception 2 (illegal data address: MODBUS Application Protocol V1.1b3, 7).

import type { AddressRange, Holes } from './holes.ts';
import { type PlannedPoint, type PlannedRequest, requestFor, sortPoints } from './poll-plan.ts';

/** How a request ended: `refused` is exception 2. */
export type AskResult = 'answered' | 'refused';

/**
 * Finds out which points of a refused request can be read, by asking for halves, and remembers why the whole could not.
 * About 2 × log2(points) requests for each thing that is wrong.
 *
 * @param request was answered with exception 2
 * @param ask reads one request, and keeps what it gave; what it throws (no answer, …) ends the search
 */
export async function bisect<Point extends PlannedPoint>(
  request: PlannedRequest<Point>,
  holes: Holes,
  ask: (request: PlannedRequest<Point>) => Promise<AskResult>,
): Promise<void> {
  const halves = splitRequest(request);
  if (halves === undefined) {
    holes.add(request.table, request);
    return;
  }
  const results: AskResult[] = [];
  for (const half of halves) {
    const result = await ask(half);
    results.push(result);
    if (result === 'refused') await bisect(half, holes, ask);
  }
  if (results.every((result) => result === 'answered')) holes.add(request.table, joint(request, halves));
}

type Halves<Point extends PlannedPoint> = readonly [PlannedRequest<Point>, PlannedRequest<Point>];

/** Two requests for the points of one; undefined when all of its points have the same range. */
export function splitRequest<Point extends PlannedPoint>(request: PlannedRequest<Point>): Halves<Point> | undefined {
  const points = sortPoints(request.points);
  const cut = cutNearestTheMiddle(points);
  if (cut === undefined) return undefined;
  const fromZero = request.address < (points[0]?.address ?? 0);
  return [
    requestFor(request.table, points.slice(0, cut), fromZero),
    requestFor(request.table, points.slice(cut), fromZero),
  ];
}

/** Prefers a place that parts no two points that overlap; else parts points of different ranges. */
function cutNearestTheMiddle(points: readonly PlannedPoint[]): number | undefined {
  let best: { readonly cut: number; readonly cost: number } | undefined;
  let end = 0;
  for (let cut = 1; cut < points.length; cut += 1) {
    const [before, after] = [points[cut - 1], points[cut]];
    if (before === undefined || after === undefined) break;
    end = Math.max(end, before.address + before.quantity);
    if (before.address === after.address && before.quantity === after.quantity) continue;
    const overlapCost = after.address < end ? points.length : 0;
    const cost = Math.abs(cut - points.length / 2) + overlapCost;
    if (best === undefined || cost < best.cost) best = { cut, cost };
  }
  return best?.cut;
}

/** What fails though both halves can be read: what joins them. */
function joint(whole: PlannedRequest, [left, right]: Halves<PlannedPoint>): AddressRange {
  const address = left.address + left.quantity - 1;
  const end = right.address + 1;
  // Halves that overlap, or both start at zero: only the whole is known to fail.
  return address < right.address ? { address, quantity: end - address } : whole;
}
