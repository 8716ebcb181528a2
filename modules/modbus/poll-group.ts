// The points of one device that share a period: when they are read, what they gave, and what is published.
//
// A device that fails gives one batch at the transition and then one each heartbeat; a device that answers gives one a
// poll. After a request without an answer the others of the poll are left out: they would only cost the bus more time.

import {
  type AdapterContext,
  type DeviceState,
  errorText,
  isGatewayError,
  type PollGridOptions,
  PollLoop,
  type Reading,
} from '#sdk';
import { type AskResult, bisect } from './bisect.ts';
import type { ModbusDevice } from './device.ts';
import { exceptionOf, reasonOf } from './faults.ts';
import { Holes } from './holes.ts';
import { readFunction, type ReadRequest } from './pdu.ts';
import { type PlanLimits, type PlannedRequest, planRequests } from './poll-plan.ts';
import { type LocatedPoints, SUNSPEC_REASONS, type SunspecPoints } from './sunspec.ts';
import type { CompiledPoint } from './values.ts';

export interface PollGroupOptions {
  readonly device: ModbusDevice;
  readonly context: AdapterContext;
  readonly points: readonly CompiledPoint[];
  /** Where points are that lie in SunSpec models; undefined: they all say it themselves. */
  readonly sunspec?: SunspecPoints | undefined;
  readonly limits: PlanLimits;
  /** Silence of a failing device between two batches. */
  readonly heartbeatMs: number;
  readonly stop: AbortSignal;
  /** Told after each poll how the points did. */
  readonly onState: (state: DeviceState, reason?: string) => void;
}

type PointRequest = PlannedRequest<CompiledPoint>;

/** What a poll gave. */
interface Harvest {
  readonly readings: Map<string, Reading>;
  /** Why points have no reading. */
  readonly failures: Map<string, string>;
  readonly dueMs: number;
  /** When the first request went out. */
  sentMs: number | undefined;
}

const NOTHING_MISSING: ReadonlyMap<string, string> = new Map();
/** Illegal data address (MODBUS Application Protocol V1.1b3, 7). */
const REFUSED = 2;
/** After so long the device is asked again for what it refused: it may have been set up otherwise. */
const HOLES_MAX_AGE_MS = 600_000;

export class PollGroup {
  readonly #options: PollGroupOptions;
  readonly #holes = new Holes();
  #holesSinceMs = 0;
  #plan: readonly PointRequest[] | undefined;
  #located: LocatedPoints | undefined;
  readonly #loop: PollLoop;
  /** Undefined until the first poll. */
  #isFailing: boolean | undefined;
  #publishedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PollGroupOptions) {
    this.#options = options;
    const { context, device, stop } = options;
    this.#loop = new PollLoop({
      clock: context.clock,
      stop,
      poll: (dueMs) => this.#poll(dueMs),
      // One that failed is tried again sooner than a long period would have it.
      atMs: (dueMs, nowMs) => (this.#isFailing === true ? Math.min(dueMs, device.nextTryMs(nowMs)) : dueMs),
    });
  }

  start(grid: PollGridOptions): void {
    this.#loop.start(grid);
  }

  /** Resolves when the poll under way has ended; no other one starts after `stop`. */
  settled(): Promise<void> {
    return this.#loop.settled();
  }

  /** The bus has a new connection: what was refused may be there now, and what failed is read at once. */
  reconnected(): void {
    this.#forgetLayout();
    if (this.#isFailing === true) this.#loop.pollNow();
  }

  /** The bus has no connection: said at once, whatever the period. */
  lost(reason: string): void {
    if (this.#isFailing === true || this.#loop.isRunning || this.#options.stop.aborted) return;
    this.#fail(reason);
  }

  #nowMs(): number {
    return this.#options.context.clock.monotonicMs();
  }

  async #poll(dueMs: number): Promise<void> {
    const { context, stop, device } = this.#options;
    try {
      await context.ready(stop);
      const harvest: Harvest = { readings: new Map(), failures: new Map(), dueMs, sentMs: undefined };
      await this.#read(harvest);
      if (stop.aborted) return;
      this.#publish(harvest);
      this.#reportTiming(harvest);
    } catch (error) {
      if (isGatewayError(error, 'GW_ABORTED')) return;
      context.log.error({ device: device.id, error: errorText(error) }, 'A poll ended with a fault of the gateway.');
    }
  }

  async #read(harvest: Harvest): Promise<void> {
    const { device, points } = this.#options;
    if (device.isSuspended) {
      const known = this.#located?.points ?? points;
      if (!(await device.probe(probeOf(known), this.#requestOptions(harvest)))) {
        noteFailure(points, harvest, device.silence);
        return;
      }
      // It may have been started anew, with other firmware.
      this.#forgetLayout();
    }
    if (this.#holes.size > 0 && this.#nowMs() - this.#holesSinceMs > HOLES_MAX_AGE_MS) this.#forgetLayout();
    const located = await this.#locate(harvest);
    if (located === undefined) return;
    for (const [name, reason] of located.missing) harvest.failures.set(name, reason);
    this.#plan ??= planRequests(located.points, this.#options.limits, this.#holes);
    for (const request of this.#plan) {
      try {
        if ((await this.#ask(request, harvest)) === 'answered') continue;
        this.#plan = undefined;
        this.#holesSinceMs = this.#nowMs();
        await bisect(request, this.#holes, (part) => this.#ask(part, harvest));
      } catch (error) {
        if (isGatewayError(error, 'GW_ABORTED')) throw error;
        // An exception is an answer; without one the rest would cost a timeout each.
        const isAnswer = exceptionOf(error) !== undefined;
        noteFailure(isAnswer ? request.points : points, harvest, reasonOf(error));
        if (!isAnswer) return;
      }
    }
  }

  /** Undefined when the device did not answer: the failures say why. */
  async #locate(harvest: Harvest): Promise<LocatedPoints | undefined> {
    const { device, points, sunspec } = this.#options;
    if (sunspec === undefined) return { points, missing: NOTHING_MISSING };
    try {
      const ask = (request: ReadRequest): Promise<Uint8Array> => device.request(request, this.#requestOptions(harvest));
      const located = await sunspec.locate(ask, this.#nowMs());
      if (located !== this.#located) this.#plan = undefined;
      this.#located = located;
      return located;
    } catch (error) {
      if (isGatewayError(error, 'GW_ABORTED')) throw error;
      noteFailure(points, harvest, reasonOf(error));
      return undefined;
    }
  }

  /** Reads one request into the harvest. @throws GatewayError for what is no answer, and exceptions but number 2. */
  async #ask(request: PointRequest, harvest: Harvest): Promise<AskResult> {
    const { functionCode, address, quantity } = request;
    try {
      const data = await this.#options.device.request(
        { functionCode, address, quantity },
        this.#requestOptions(harvest),
      );
      for (const point of request.points) harvest.readings.set(point.name, point.read(data, address));
      return 'answered';
    } catch (error) {
      if (exceptionOf(error) !== REFUSED) throw error;
      return 'refused';
    }
  }

  #requestOptions(harvest: Harvest): { priority: 'read'; dueMs: number; onSent: (nowMs: number) => void } {
    return {
      priority: 'read',
      dueMs: harvest.dueMs,
      onSent: (nowMs) => {
        harvest.sentMs ??= nowMs;
      },
    };
  }

  #publish(harvest: Harvest): void {
    const { device, context, points, onState } = this.#options;
    const failed = points.find(({ name }) => !harvest.readings.has(name));
    // What has neither a reading nor a failure lies in a hole and was not asked for.
    const reasonFor = (name: string): string => harvest.failures.get(name) ?? `exception_${REFUSED}`;
    if (harvest.readings.size === 0 && failed !== undefined) {
      this.#fail(reasonFor(failed.name));
      return;
    }
    const readings = points.map((point) => harvest.readings.get(point.name) ?? point.bad(reasonFor(point.name)));
    this.#isFailing = false;
    this.#publishedMs = this.#nowMs();
    context.publishReadings({ deviceId: device.id, time: context.clock.now(), readings });
    if (failed === undefined) onState('good');
    else onState('degraded', reasonFor(failed.name));
  }

  /** Nothing could be read. */
  #fail(reason: string): void {
    const { device, context, points, heartbeatMs, onState } = this.#options;
    const nowMs = this.#nowMs();
    const isAnswer = reason.startsWith('exception_') || SUNSPEC_REASONS.has(reason);
    onState(isAnswer && !device.isSuspended ? 'degraded' : 'offline', reason);
    if (this.#isFailing === true && nowMs - this.#publishedMs < heartbeatMs) return;
    this.#isFailing = true;
    this.#publishedMs = nowMs;
    const readings = points.map((point) => point.bad(reason));
    context.publishReadings({ deviceId: device.id, time: context.clock.now(), readings });
  }

  #reportTiming({ dueMs, sentMs }: Harvest): void {
    // Nothing went out: a device that is only probed is not late.
    if (sentMs === undefined) return;
    const { context, device } = this.#options;
    context.reportPoll({ deviceId: device.id, ...this.#loop.timing(dueMs, sentMs) });
  }

  /** What was learned of the device is learned again. */
  #forgetLayout(): void {
    this.#options.sunspec?.forget();
    if (this.#holes.size === 0) return;
    this.#holes.clear();
    this.#plan = undefined;
  }
}

function noteFailure(points: readonly CompiledPoint[], { failures }: Harvest, reason: string): void {
  for (const { name } of points) {
    if (!failures.has(name)) failures.set(name, reason);
  }
}

/** The cheapest sign of life: one register or bit that a point has anyway. */
function probeOf(points: readonly CompiledPoint[]): ReadRequest {
  const [point] = points;
  if (point === undefined) return { functionCode: 3, address: 0, quantity: 1 };
  return { functionCode: readFunction(point.table), address: point.address, quantity: 1 };
}
