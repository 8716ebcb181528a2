// From what an adapter read to what is worth a message, in the order that core/shape.ts names. State is kept for the
// configured points only (`LIMITS.points`); nothing here waits for anything: who calls asks again for what is due.

import type { DeviceInfo, PointInfo } from '../core/adapter.ts';
import { LIMITS } from '../core/limits.ts';
import type { Reading, ReadingBatch } from '../core/reading.ts';
import type { MessageShape, PointShape } from '../core/shape.ts';
import type { Timestamp } from '../core/time.ts';
import { createComputed, type Computed } from './computed.ts';
import { isTracked, PointTrack, type LateReading } from './point-track.ts';
import type { Suppressed } from './report-rule.ts';
import { valueSteps } from './value-steps.ts';

type Steps = (reading: Reading) => Reading;

interface PointState {
  /** The shape as text, by which a point that stays the same is known. */
  readonly key: string;
  readonly steps: Steps | undefined;
  readonly track: PointTrack | undefined;
}

interface DeviceState {
  readonly info: DeviceInfo;
  readonly points: Map<string, PointState>;
  /** Of the points that are not named. */
  readonly defaults: PointShape;
  readonly computed: Computed | undefined;
  readonly hasSteps: boolean;
  readonly hasTracks: boolean;
  /** Whether something may wait in it for its time. */
  readonly canWait: boolean;
  /** How many of the points are named; the others showed themselves. */
  readonly named: number;
  readonly messages: MessageShape;
}

/** Readings that waited; how its messages are made, as the device said it when they came. */
export interface LateBatch {
  readonly batch: ReadingBatch;
  readonly messages: MessageShape;
}

export interface Transform {
  /** Takes the shape of a device and its points. A point whose shape stays the same keeps what it knows. */
  setDevice(device: DeviceInfo): void;
  removeDevice(deviceId: string): void;
  /** The batch as people see it: scaled, clamped, with computed points (not of what is historical). */
  shape(batch: ReadingBatch): ReadingBatch;
  /**
   * Of a shaped batch what has to be reported now, under the names of messages; undefined when that is nothing. What is
   * historical is reported as it is: windows, deadbands and rates go by what is new.
   */
  report(batch: ReadingBatch): ReadingBatch | undefined;
  /** What waited in windows and rate limits and is due by `nowMs`; all of it at infinity. */
  due(nowMs: number): readonly LateBatch[];
  /** Whether `due` may give something later. */
  readonly waits: boolean;
  /** How messages of a device are made, where it says so itself. */
  messages(deviceId: string): MessageShape;
}

const NO_SHAPE: PointShape = Object.freeze({});
const NO_MESSAGES: MessageShape = Object.freeze({});

export interface TransformOptions {
  /** Told of readings that no message will carry. */
  readonly onSuppressed?: (suppressed: Readonly<Suppressed>) => void;
}

export function createTransform(options: TransformOptions = {}): Transform {
  const devices = new Map<string, DeviceState>();
  /** Earliest due time by device, of those where something waits. */
  const waiting = new Map<string, number>();
  /** What devices that changed or went away left behind. */
  let left: LateBatch[] = [];
  let unnamedPoints = 0;

  function tell(suppressed: Suppressed): void {
    if (suppressed.deadband + suppressed.rate + suppressed.window > 0) options.onSuppressed?.(suppressed);
  }

  /** What of some points of a device is due. */
  function late(deviceId: string, device: DeviceState, tracks: readonly PointTrack[], nowMs: number): LateBatch[] {
    const suppressed = { deadband: 0, rate: 0, window: 0 };
    const readings: LateReading[] = [];
    for (const track of tracks) readings.push(...track.late(nowMs, suppressed));
    tell(suppressed);
    return batches(deviceId, readings).map((batch) => ({ batch, messages: device.messages }));
  }

  function note(deviceId: string, { points, canWait }: DeviceState): void {
    if (!canWait) return;
    let dueMs: number | undefined;
    for (const { track } of points.values()) {
      const own = track?.dueMs;
      if (own !== undefined && (dueMs === undefined || own < dueMs)) dueMs = own;
    }
    if (dueMs === undefined) waiting.delete(deviceId);
    else waiting.set(deviceId, dueMs);
  }

  /** Forgets a device; what waits in those of its points that do not go on is due at once. */
  function leave(deviceId: string, device: DeviceState, isGone: (track: PointTrack) => boolean): void {
    left.push(...late(deviceId, device, tracksOf(device).filter(isGone), Number.POSITIVE_INFINITY));
    unnamedPoints -= device.points.size - device.named;
    devices.delete(deviceId);
    waiting.delete(deviceId);
  }

  /** A point that nobody named, as the defaults of its device say; none past the bound. */
  function unnamed(device: DeviceState, name: string): PointState | undefined {
    if (unnamedPoints >= LIMITS.points) return undefined;
    unnamedPoints += 1;
    const state = pointState(name, device.defaults);
    device.points.set(name, state);
    return state;
  }

  return {
    setDevice(info) {
      const before = devices.get(info.deviceId);
      const state = deviceState(info, before);
      const kept = new Set([...state.points.values()].map(({ track }) => track));
      if (before !== undefined) leave(info.deviceId, before, (track) => !kept.has(track));
      devices.set(info.deviceId, state);
      note(info.deviceId, state);
    },
    removeDevice(deviceId) {
      const device = devices.get(deviceId);
      if (device !== undefined) leave(deviceId, device, () => true);
    },
    shape(batch) {
      const device = devices.get(batch.deviceId);
      if (device === undefined || (!device.hasSteps && device.computed === undefined)) return batch;
      const readings = device.hasSteps
        ? batch.readings.map((reading) => {
            const state = device.points.get(reading.point) ?? unnamed(device, reading.point);
            return state?.steps === undefined ? reading : state.steps(reading);
          })
        : batch.readings;
      // Computed points are made of the last readings, which these are not.
      const computed = batch.isHistorical === true ? [] : (device.computed?.update(readings) ?? []);
      return { ...batch, readings: computed.length === 0 ? readings : [...readings, ...computed] };
    },
    report(batch) {
      const device = devices.get(batch.deviceId);
      if (device === undefined || !device.hasTracks) return batch;
      const suppressed = { deadband: 0, rate: 0, window: 0 };
      const out: Reading[] = [];
      for (const reading of batch.readings) {
        const state = device.points.get(reading.point) ?? unnamed(device, reading.point);
        if (state?.track === undefined) out.push(reading);
        else if (batch.isHistorical === true) out.push(state.track.named(reading));
        else state.track.take(reading, batch.time, out, suppressed);
      }
      tell(suppressed);
      note(batch.deviceId, device);
      return out.length === 0 ? undefined : { ...batch, readings: out };
    },
    due(nowMs) {
      const found = left;
      left = [];
      // At the end also what has no time of its own: windows of samples.
      const isEnd = nowMs === Number.POSITIVE_INFINITY;
      for (const deviceId of (isEnd ? devices : waiting).keys()) {
        const device = devices.get(deviceId);
        if (device === undefined || (!isEnd && (waiting.get(deviceId) ?? nowMs) > nowMs)) continue;
        found.push(...late(deviceId, device, tracksOf(device), nowMs));
        note(deviceId, device);
      }
      return found;
    },
    get waits() {
      return waiting.size > 0 || left.length > 0;
    },
    messages: (deviceId) => devices.get(deviceId)?.messages ?? NO_MESSAGES,
  };
}

function tracksOf({ points }: DeviceState): readonly PointTrack[] {
  return [...points.values()].flatMap(({ track }) => track ?? []);
}

function deviceState(info: DeviceInfo, before: DeviceState | undefined): DeviceState {
  const defaults = info.shape?.pointDefaults ?? NO_SHAPE;
  const points = new Map<string, PointState>();
  for (const { name, shape = defaults } of info.points)
    points.set(name, pointState(name, shape, before?.points.get(name)));
  const all = [pointState('', defaults), ...points.values()];
  return {
    info,
    points,
    defaults,
    computed: createComputed(info, before && stillValid(before, info)),
    hasSteps: all.some(({ steps }) => steps !== undefined),
    hasTracks: all.some(({ track }) => track !== undefined),
    canWait: all.some(({ track }) => track?.canWait === true),
    named: points.size,
    messages: info.shape?.messages ?? NO_MESSAGES,
  };
}

/** The last readings of what is the same point still: a device that shows one more keeps the values of the others. */
function stillValid({ info: before, computed }: DeviceState, after: DeviceInfo): (readonly [string, Reading])[] {
  if (computed === undefined || computed.last.size === 0) return [];
  const [old, now] = [before, after].map(({ points }) => new Map(points.map((info) => [info.name, sourceKey(info)])));
  return [...computed.last].filter(([name]) => old?.get(name) === now?.get(name));
}

/** Where the values of a point come from and what is made of them. */
function sourceKey({ address, shape }: PointInfo): string {
  return textOf([address, shape]);
}

/** Bounds may be bigint, which JSON does not know. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));
}

function pointState(name: string, shape: PointShape, before?: PointState): PointState {
  const key = textOf(shape);
  if (before?.key === key) return before;
  return {
    key,
    // A computed point has been through its steps already.
    steps: shape.expression === undefined ? valueSteps(shape) : undefined,
    track: isTracked(shape) ? new PointTrack(name, shape) : undefined,
  };
}

/** Readings of one time together, in the order of their times. */
function batches(deviceId: string, late: readonly LateReading[]): ReadingBatch[] {
  const byTime = new Map<Timestamp, Reading[]>();
  for (const { reading, time } of late) {
    const readings = byTime.get(time);
    if (readings === undefined) byTime.set(time, [reading]);
    else readings.push(reading);
  }
  return [...byTime]
    .sort(([a], [b]) => a.monotonicMs - b.monotonicMs)
    .map(([time, readings]) => ({ deviceId: deviceId as ReadingBatch['deviceId'], time, readings }));
}
